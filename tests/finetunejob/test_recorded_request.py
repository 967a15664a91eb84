"""A job that has started uses only the request whose digest is in its status."""

import json

import pytest

from support.builders import golden_text, make_config_map, make_gate, make_job, make_namespace
from support.fake_cluster import Crash
from support.recorded import delete, replace_record, request_of, restore
from support.world import Script, World
from tunegate_api.contract.digests import sha256_text
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.objects import uid_of
from tunegate_operator.names import REQUEST_KEY

LOOSER = [{"name": "all", "minPassRate": "10%"}]
"""Rules with which a model passes that the gate of the running job refuses."""


def loosen_gate(world: World) -> None:
    gate = world.gate()
    gate["spec"]["sets"][0]["rules"] = LOOSER
    world.cluster.as_user.replace(gate)


def looser(request: str) -> str:
    """Return a request with looser rules."""
    changed = json.loads(request)
    changed["gates"][0]["spec"]["sets"][0]["rules"] = LOOSER
    return json.dumps(changed)


def started(role: str = "train", final: int = 50) -> World:
    """Return a world in which a pod of this role is due, or has trained a checkpoint. The final model passes
    ``final`` cases of 100, and the gate requires 80."""
    world = World(Script(final=final))
    world.apply_all(make_job().with_publish().obj())
    world.until_job(role)
    if role == "train":
        world.until_checkpoint()
    return world


def assert_held(world: World, *texts: str) -> None:
    condition = world.condition("Stalled")
    assert condition is not None, world.status().message
    assert (condition.status, condition.reason) == ("True", Reason.REQUEST_CHANGED)
    assert world.condition("Ready").reason == Reason.REQUEST_CHANGED
    for text in (*texts, "restore", "delete the job and apply it again"):
        assert text in condition.message
    assert world.status().display.next == "fix: RequestChanged"


def test_digest_of_the_request_is_in_status() -> None:
    world = started("data")
    assert world.status().request_sha256 == sha256_text(request_of(world)["data"][REQUEST_KEY])


@pytest.mark.parametrize("role", ["data", "train", "gate"])
@pytest.mark.parametrize("restarts", [False, True], ids=["same operator", "new operator"])
def test_job_with_deleted_request_is_held_until_restored(role: str, restarts: bool) -> None:
    world = started(role)
    request, before = request_of(world), world.status()
    delete(world, request)
    loosen_gate(world)
    if restarts:
        world.boot()
    jobs = world.jobs()
    world.run()
    assert_held(world, request["metadata"]["name"], "was deleted")
    assert world.jobs() == jobs, "no further child was created"
    status = world.status()
    assert (status.phase, status.final, status.published) == (before.phase, before.final, [])
    assert world.events().count(Reason.REQUEST_CHANGED) == 1

    restore(world, request)
    failure = world.run().failure
    assert failure is not None
    assert failure.reason == Reason.GATE_FAILED, "it is judged by the gate with which it started"
    assert world.condition("Stalled").reason == Reason.GATE_FAILED


@pytest.mark.parametrize("role", ["data", "train", "gate"])
def test_job_with_another_request_is_held_until_restored(role: str) -> None:
    world = started(role)
    request, phase, jobs = request_of(world), world.status().phase, world.jobs()
    own = request["data"][REQUEST_KEY]
    replace_record(world, request, {REQUEST_KEY: looser(own)})
    world.run()
    assert_held(world, request["metadata"]["name"], sha256_text(own), sha256_text(looser(own)))
    assert (world.status().phase, world.jobs()) == (phase, jobs)

    replace_record(world, request, {REQUEST_KEY: own})
    failure = world.run().failure
    assert failure is not None
    assert failure.reason == Reason.GATE_FAILED


def test_required_gates_cannot_be_skipped_by_deleting_the_request() -> None:
    world = World()
    world.apply(
        make_config_map("rows", train__jsonl="{}"),
        make_config_map("cases", golden__jsonl=golden_text()),
        make_gate().obj(),
        make_namespace("golden"),
        make_job().with_publish().obj(),
    )
    world.until_checkpoint()
    delete(world, request_of(world))
    delete(world, world.gate())
    world.run()
    assert_held(world)
    assert world.status().published == []


def test_suspended_job_whose_request_was_deleted_does_not_start_again() -> None:
    world = started()
    request = request_of(world)
    world.edit(suspend=True)
    world.run()
    delete(world, request)
    world.edit(suspend=False)
    world.run()
    assert_held(world)
    restore(world, request)
    assert world.run().failure.reason == Reason.GATE_FAILED


def test_held_job_ignores_deadlines_and_can_be_deleted() -> None:
    world = World()
    world.apply_all(make_job().with_spec(activeDeadlineSeconds=100, startTimeoutSeconds=60).obj())
    world.until_job("train")
    delete(world, request_of(world))
    world.advance(1000)
    assert_held(world)
    delete(world, world.job())
    world.settle()
    assert world.jobs() == []


def test_suspended_job_without_plan_is_held_without_its_request() -> None:
    """It has neither a plan nor a child Job, so only the name in status shows that it has started."""
    world = started("data")
    world.edit(suspend=True)
    world.run()
    assert (world.jobs(), world.status().plan) == ([], None)
    delete(world, request_of(world))
    world.boot()
    loosen_gate(world)
    world.edit(suspend=False)
    world.run()
    assert_held(world, "was deleted")
    assert world.jobs() == []


def test_request_of_another_version_of_the_operator_is_recognized() -> None:
    """The digest is that of the text, because other versions may write a field or leave it out."""
    world = World()
    world.apply_all(make_job().with_publish().obj())
    crash_after(world, "create", "ConfigMap")
    made = request_of(world)
    other = json.dumps(json.loads(made["data"][REQUEST_KEY]), indent=1)
    replace_record(world, made, {REQUEST_KEY: other})
    world.boot()
    world.settle()
    assert world.status().request_sha256 == sha256_text(other)
    world.boot()
    assert world.run().phase is Phase.SUCCEEDED


def test_crash_before_the_first_status_keeps_the_created_request() -> None:
    world = World(Script(final=50))
    world.apply_all(make_job().with_publish().obj())
    crash_after(world, "create", "ConfigMap")
    made = request_of(world)
    assert world.status().request is None
    loosen_gate(world)
    world.boot()
    world.settle()
    assert request_of(world) == made
    assert world.status().request_sha256 == sha256_text(made["data"][REQUEST_KEY])
    assert world.run().failure.reason == Reason.GATE_FAILED


def test_request_deleted_before_the_first_status_holds_the_job() -> None:
    world = World(Script(final=50))
    world.apply_all(make_job().with_publish().obj())
    crash_after(world, "create", "Job")
    made = request_of(world)
    assert (world.status().request, len(world.jobs())) == (None, 1)
    loosen_gate(world)
    delete(world, made)
    world.boot()
    world.run()
    assert_held(world, "was deleted")
    restore(world, made)
    assert world.run().failure.reason == Reason.GATE_FAILED


def crash_after(world: World, verb: str, kind: str) -> None:
    """Crash the operator after its first write of this verb and kind."""
    undisturbed = World()
    undisturbed.apply_all(make_job().with_publish().obj())
    undisturbed.settle()
    verbs = [(write.verb, write.kind) for write in undisturbed.cluster.writes]
    world.cluster.fail_after(verbs.index((verb, kind)) + 1)
    with pytest.raises(Crash):
        world.settle()


@pytest.mark.parametrize("has_status", [False, True], ids=["before the first status", "later"])
def test_request_missing_in_the_cache_is_used_not_recreated(monkeypatch, has_status: bool) -> None:
    """When another operator takes over, its list of ConfigMaps may be older than the request."""
    world = started() if has_status else World(Script(final=50))
    if not has_status:
        world.apply_all(make_job().with_publish().obj())
        crash_after(world, "create", "ConfigMap")
    made, list_objects = request_of(world), world.cluster.list_objects

    def without_request(kind: str, namespace: str | None = None) -> list[Object]:
        return [obj for obj in list_objects(kind, namespace) if obj["metadata"]["uid"] != uid_of(made)]

    loosen_gate(world)
    with monkeypatch.context() as patch:
        patch.setattr(world.cluster, "list_objects", without_request)
        world.boot()
        world.settle()
        world.advance(1)
    assert world.run().failure.reason == Reason.GATE_FAILED
    assert world.status().request_sha256 == sha256_text(made["data"][REQUEST_KEY])
    assert Reason.REQUEST_CHANGED not in world.events()


def test_stale_cache_without_the_digest_uses_no_new_request(monkeypatch) -> None:
    world = started()
    request, list_objects = request_of(world), world.cluster.list_objects
    metadata = world.job()["metadata"] | {"resourceVersion": "1"}
    stale = {**world.job(), "metadata": metadata, "status": {}}

    def stale_jobs(kind: str, namespace: str | None = None) -> list[Object]:
        return [stale] if kind == "FineTuneJob" else list_objects(kind, namespace)

    delete(world, request)
    loosen_gate(world)
    with monkeypatch.context() as patch:
        patch.setattr(world.cluster, "list_objects", stale_jobs)
        world.boot()
    world.run()
    world.advance(1)
    world.run()
    assert_held(world)
    restore(world, request)
    assert world.run().failure.reason == Reason.GATE_FAILED


def test_ended_job_is_not_cleaned_up_by_another_request() -> None:
    world = World(Script(final=94))
    world.apply_all(make_job().with_spec(ttlSecondsAfterFinished=600).obj())
    world.run()
    request, jobs = request_of(world), world.jobs()
    changed = json.loads(request["data"][REQUEST_KEY]) | {"trainerImage": "evil"}
    replace_record(world, request, {REQUEST_KEY: json.dumps(changed)})
    world.advance(700)
    world.run()
    assert (world.status().phase, world.jobs()) == (Phase.SUCCEEDED, jobs)
    assert Reason.REQUEST_CHANGED in world.events()
