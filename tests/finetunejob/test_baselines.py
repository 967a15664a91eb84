"""Cached baselines: the operator records their digests, and passes the recorded digests to pods."""

from typing import Any

import pytest

from support.builders import make_gate, make_job
from support.world import Object, World
from tunegate_api.contract.baselines import BASELINES_VARIABLE, MeasuredBaseline, read_baselines
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.process import Role
from tunegate_api.v1alpha2 import EvalGateStatus
from tunegate_api.v1alpha2.evalgate_status import MAX_BASELINES as MAX_IN_GATE
from tunegate_api.v1alpha2.finetunejob_status import MAX_BASELINES as MAX_IN_JOB
from tunegate_api.v1alpha2.reasons import Phase
from tunegate_operator.engine.cluster import Key


def baseline(name: str, content: str = "", **more: Any) -> MeasuredBaseline:
    return MeasuredBaseline(key=sha256_text(name), sha256=sha256_text(content or name), **more)


def recorded_for(job: Object) -> dict[str, frozenset[str]]:
    """Return the digests of baselines that a child Job passes to its pod, by key."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    values = [v["value"] for v in container["env"] if v["name"] == BASELINES_VARIABLE]
    return read_baselines(values[0]) if values else {}


def child(world: World, name: str, role: str) -> Object:
    for job in world.cluster.as_user.list_objects("Job"):
        labels = job["metadata"]["labels"]
        if (labels["tunegate.dev/job"], labels["tunegate.dev/role"]) == (name, role):
            return job
    raise AssertionError(f"{name} has no {role} Job")


def in_gate(world: World) -> list[str]:
    return [each.key for each in EvalGateStatus.model_validate(world.gate()["status"]).baselines]


@pytest.fixture
def world() -> World:
    world = World()
    world.script.baselines = [baseline("golden"), baseline("dev")]
    world.apply_all(make_job("first").obj())
    return world


def begin_another(world: World, name: str, *baselines: MeasuredBaseline) -> None:
    world.outbox.clear()
    world.script.baselines = list(baselines)
    world.clock.advance(60)
    world.apply(make_job(name).obj())


def test_gate_pod_gets_the_baseline_digests_that_training_recorded(world: World) -> None:
    assert world.run("first").phase is Phase.SUCCEEDED
    assert recorded_for(child(world, "first", "train")) == {}
    recorded = recorded_for(child(world, "first", "gate"))
    assert recorded == {b.key: {b.sha256} for b in world.script.baselines}


@pytest.mark.parametrize("role", [Role.DATA, Role.PUBLISH])
def test_pod_without_evaluation_gets_no_baselines(role: Role) -> None:
    world = World()
    world.script.baselines = [baseline("golden")]
    world.apply_all(make_job("first").with_publish().obj())
    world.run("first")
    assert recorded_for(child(world, "first", role)) == {}


def test_training_pod_gets_baseline_digests_of_an_earlier_job(world: World) -> None:
    world.run("first")
    known = list(world.script.baselines)
    begin_another(world, "second", *known)
    world.run("second")
    assert recorded_for(child(world, "second", "train")) == {b.key: {b.sha256} for b in known}


def test_baseline_digests_are_kept_after_their_job_is_deleted(world: World) -> None:
    world.run("first")
    for obj in (*world.cluster.as_user.list_objects("Job"), world.job("first")):
        world.cluster.as_user.delete(Key.of(obj), obj["metadata"]["uid"])
    world.settle()
    begin_another(world, "second")
    world.run("second")
    assert set(recorded_for(child(world, "second", "train"))) == {sha256_text("golden"), sha256_text("dev")}


def test_baseline_digest_is_not_accepted_from_a_report(world: World) -> None:
    """Reports are stored on the volume first, where others may change them."""
    world.until_job("train")
    world.until_checkpoint("first")
    (name,) = (name for name in world.outbox if name.startswith("train"))
    wire = world.outbox[name].model_dump(mode="json", by_alias=True, exclude_none=True)
    forged = wire | {"sequence": 1000, "baselines": [baseline("golden").to_wire()]}
    world.reconciler.handle_report(forged)
    world.settle()
    assert world.status("first").baselines == []


def test_refused_baseline_emits_an_event_that_names_the_file(world: World) -> None:
    world.script.baselines = [baseline("golden", refused="f" * 64)]
    assert world.run("first").phase is Phase.SUCCEEDED
    (message,) = [text for _, _, reason, text in world.cluster.events if reason == "BaselineRefused"]
    assert f"{sha256_text('golden')}.json" in message
    assert "f" * 64 in message


def test_gate_lists_no_baselines_of_jobs_with_other_gates(world: World) -> None:
    world.run("first")
    world.apply(make_gate("other").obj())
    for name, gate in (("second", "other"), ("third", "golden")):
        world.outbox.clear()
        world.script.baselines = [baseline(name)]
        world.apply(make_job(name).with_gates(gate).obj())
        world.run(name)
    assert sha256_text("third") in in_gate(world)
    assert sha256_text("second") not in in_gate(world)


def test_status_of_a_job_keeps_the_newest_baselines(world: World) -> None:
    world.script.baselines = [baseline(str(n)) for n in range(MAX_IN_JOB + 3)]
    status = world.run("first")
    assert [b.key for b in status.baselines] == [sha256_text(str(n)) for n in range(3, MAX_IN_JOB + 3)]


def test_gate_keeps_the_baselines_of_the_newest_jobs(world: World) -> None:
    world.run("first")
    begin_another(world, "second", *(baseline(str(n)) for n in range(MAX_IN_GATE)))
    world.run("second")
    assert set(in_gate(world)) == {sha256_text(str(n)) for n in range(MAX_IN_GATE)}


def test_gate_keeps_an_old_baseline_that_a_newer_job_used(world: World) -> None:
    world.run("first")
    begin_another(world, "second", *(baseline(str(n)) for n in range(MAX_IN_GATE - 2)))
    world.run("second")
    begin_another(world, "third", baseline("golden"), baseline("x"), baseline("y"))
    world.run("third")
    assert sha256_text("golden") in in_gate(world)
    assert sha256_text("dev") not in in_gate(world)


def test_two_digests_for_the_same_baseline_key_are_both_recorded(world: World) -> None:
    """Two jobs that measure the same baseline at the same time may get different results. The volume then has
    the file of only one job."""
    world.run("first")
    begin_another(world, "second", baseline("golden", "measured again"))
    world.run("second")
    begin_another(world, "third")
    world.run("third")
    assert recorded_for(child(world, "third", "train"))[sha256_text("golden")] == {
        sha256_text("golden"),
        sha256_text("measured again"),
    }
