"""A spec that this version of the operator does not understand, because the CustomResourceDefinitions are of
another version.

A job that has started is held: its pods continue, nothing is started or deleted, and no report is lost.
"""

from typing import Any

import pytest

from support.builders import make_gate, make_job
from support.fake_cluster import Crash
from support.masking import masked_status
from support.world import Script, World
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.engine.cluster import Key, Object

NEW_FIELD = {"mixing": {"ratio": "0.5"}}
CONTRADICTION = {"gates": []}


def change(world: World, **spec: Any) -> Object:
    """Set a field that only newer CustomResourceDefinitions accept. Return the previous spec."""
    before: Object = world.job()["spec"]
    world.edit(**spec)
    world.settle()
    return before


def restore(world: World, spec: Object) -> None:
    """Restore a spec that the operator understands."""
    job = world.job()
    world.cluster.as_user.replace(job | {"spec": spec})


def is_held(world: World) -> bool:
    return any(c.reason == Reason.SPEC_NOT_UNDERSTOOD for c in world.status().conditions)


@pytest.mark.parametrize("spec", [NEW_FIELD, CONTRADICTION])
@pytest.mark.parametrize("role", ["data", "train", "gate", "publish"])
def test_running_job_with_an_unknown_field_is_held(role: str, spec: dict[str, Any]) -> None:
    world = World()
    world.apply_all(make_job().with_publish().obj())
    world.until_job(role)
    before, jobs, changed = world.status(), world.cluster.as_user.list_objects("Job"), len(world.events())
    change(world, **spec)
    status = world.status()
    assert status.phase is before.phase
    assert status.failure is None
    assert status.observed_generation == 2
    (field,) = spec
    assert f"spec.{field}" in status.message
    assert "this version of the operator does not understand the spec" in status.message
    stalled, ready = world.condition("Stalled"), world.condition("Ready")
    assert (stalled.status, stalled.reason) == ("True", Reason.SPEC_NOT_UNDERSTOOD)
    assert (ready.reason, ready.message) == (Reason.SPEC_NOT_UNDERSTOOD, status.message)
    assert world.condition("Reconciling") is None
    assert world.cluster.as_user.list_objects("Job") == jobs
    assert world.events()[changed:] == [Reason.SPEC_NOT_UNDERSTOOD]


def test_held_job_ends_normally_once_its_spec_is_understood() -> None:
    undisturbed = World()
    undisturbed.apply_all()
    undisturbed.run()

    world = World()
    world.apply_all()
    world.until_checkpoint()
    spec = change(world, **NEW_FIELD)
    restore(world, spec)
    world.run()
    ends = [masked_status(each.job()) for each in (world, undisturbed)]
    for end in ends:
        end.pop("observedGeneration")
        for condition in end["conditions"]:
            condition.pop("observedGeneration")
    assert ends[0] == ends[1]
    assert [name.split("-")[1] for name in world.jobs()] == ["data", "gate", "train"]


def test_held_job_starts_nothing_when_its_pod_ends() -> None:
    world = World()
    world.apply_all()
    world.until_job("train")
    spec = change(world, **NEW_FIELD)
    jobs = world.jobs()
    for _ in range(20):
        world.tick()
        world.settle()
    assert not world.active_jobs(), "training has ended"
    assert world.jobs() == jobs
    assert is_held(world)
    restore(world, spec)
    assert world.run().phase is Phase.SUCCEEDED


def test_results_reported_while_held_are_not_lost_on_operator_restart() -> None:
    """The operator must not acknowledge results before status has them, because a pod resends only results
    that are not acknowledged."""
    world = World(posts=True)
    world.apply_all()
    world.until_job("train")
    spec = change(world, **NEW_FIELD)
    for _ in range(20):
        world.tick()
        world.settle()
    assert not world.active_jobs(), "training has ended"
    assert not world.status().checkpoints
    restore(world, spec)
    world.boot()
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    assert [c.step for c in status.checkpoints] == [10, 20, 30, 40, 50]


def test_held_jobs_status_is_written_once_although_pods_change() -> None:
    world = World()
    world.apply_all()
    world.until_checkpoint()
    change(world, **NEW_FIELD)
    written = len(world.cluster.writes)
    (training,) = world.active_jobs()
    for step in (11, 12, 13):
        world.report_progress(training, step)
        world.reconciler.resync()
        world.advance(60)
    world.boot()
    world.settle()
    assert len(world.cluster.writes) == written


def test_new_operator_holds_a_job_without_a_first_status() -> None:
    """The operator of the other version crashed after it created the first child and before it wrote
    status."""
    undisturbed = World()
    undisturbed.apply_all()
    undisturbed.settle()
    verbs = [(write.verb, write.kind) for write in undisturbed.cluster.writes]

    world = World()
    world.apply_all()
    world.cluster.fail_after(verbs.index(("create", "Job")) + 1)
    with pytest.raises(Crash):
        world.settle()
    jobs = world.jobs()
    assert (world.status().request, len(jobs)) == (None, 1)
    world.edit(**NEW_FIELD)
    world.boot()
    world.settle()
    assert is_held(world)
    assert world.jobs() == jobs


def test_started_job_with_an_unknown_field_is_held_without_children() -> None:
    world = World()
    world.apply_all()
    world.until_job("data")
    for kind in ("Job", "ConfigMap"):
        for child in world.cluster.as_user.list_objects(kind):
            if "ownerReferences" in child["metadata"]:
                world.cluster.as_user.delete(Key.of(child), child["metadata"]["uid"])
    change(world, **NEW_FIELD)
    assert (is_held(world), world.jobs()) == (True, [])


def test_held_time_does_not_count_toward_the_start_timeout() -> None:
    world = World()
    world.apply_all(make_job().with_spec(startTimeoutSeconds=600).obj())
    world.until_job("train")
    assert world.status().phase is Phase.QUEUED
    spec = change(world, **NEW_FIELD)
    world.advance(3600)
    assert is_held(world)
    restore(world, spec)
    assert world.run().phase is Phase.SUCCEEDED


@pytest.mark.parametrize("phase", [Phase.SUSPENDED, Phase.STOPPED])
def test_stopped_or_suspended_job_shows_its_message_after_hold(phase: Phase) -> None:
    world = World(Script(checkpoints={10: 60, 20: 95, 30: 87, 35: 85}))
    world.apply_all()
    if phase is Phase.STOPPED:
        world.run()
    else:
        world.until_checkpoint()
        world.edit(suspend=True)
        world.settle()
    before = world.status()
    assert before.phase is phase
    spec = change(world, **NEW_FIELD)
    assert (world.status().phase, is_held(world)) == (phase, True)
    restore(world, spec)
    world.settle()
    assert (world.status().phase, world.status().message) == (phase, before.message)
    assert not is_held(world)


def test_waiting_job_with_an_unknown_field_fails_as_invalid() -> None:
    """No pod of the job has run, so the job fails at once instead of being held."""
    world = World()
    world.apply(make_job().with_spec(**NEW_FIELD).obj())
    world.settle()
    failure = world.status().failure
    assert failure is not None
    assert (failure.reason, world.jobs()) == (Reason.INVALID_SPEC, [])


def test_ended_job_with_an_unknown_field_does_not_change() -> None:
    world = World()
    world.apply_all()
    before = world.run()
    change(world, **NEW_FIELD)
    after = world.status()
    assert (after.phase, after.message, after.failure) == (Phase.SUCCEEDED, before.message, None)


def test_unknown_gate_field_does_not_affect_a_running_job() -> None:
    world = World()
    world.apply_all()
    world.until_job("gate")
    gate = world.gate()
    gate["spec"].update(NEW_FIELD)
    world.cluster.as_user.replace(gate)
    assert world.run().phase is Phase.SUCCEEDED


def test_job_stays_pending_while_its_gate_has_an_unknown_field() -> None:
    world = World()
    world.apply_all(gate=make_gate().with_spec(**NEW_FIELD).obj())
    world.settle()
    assert (world.status().phase, world.jobs()) == (Phase.PENDING, [])
    gate = world.gate()
    del gate["spec"]["mixing"]
    world.cluster.as_user.replace(gate)
    assert world.run().phase is Phase.SUCCEEDED


def test_new_job_with_an_unlisted_variable_is_refused() -> None:
    world = World()
    template = {"env": [{"name": "MY_TEAM_SETTING", "value": "x"}]}
    world.apply_all(make_job().with_spec(podTemplate=template).obj())
    world.settle()
    assert world.status().phase is Phase.FAILED


def test_finished_job_of_another_operator_version_is_not_written_again() -> None:
    """Its status lacks a condition and columns that this version writes."""
    world = World()
    world.apply_all(make_job().with_spec(ttlSecondsAfterFinished=3600).obj())
    world.run()
    job = world.job()
    status = job["status"]
    status["conditions"] = [c for c in status["conditions"] if c["type"] != "Failed"]
    del status["display"]["base"]
    for point in status["checkpoints"]:
        del point["time"]
    world.cluster.as_user.patch_status(Key.of(job), status, job["metadata"]["resourceVersion"])
    before = len(world.cluster.writes)
    world.boot()
    world.settle()
    world.advance(60)
    assert world.cluster.writes[before:] == []
