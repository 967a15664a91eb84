"""A suspended job has no pods, does not time out, and resumes from its last checkpoint."""

import pytest

from support.builders import golden_text, make_config_map, make_gate, make_job
from support.fake_cluster import Crash
from support.world import REGRESSING, Script, World
from tunegate_api.v1alpha2.finetunejob_status import MAX_ATTEMPTS
from tunegate_api.v1alpha2.reasons import Phase
from tunegate_operator.names import CONTINUE_ANNOTATION


def training() -> World:
    """Return a world whose job has a training pod that has just started."""
    world = World()
    world.apply_all()
    world.until_job("train")
    world.cluster.start_pod(world.active_jobs()[0]["metadata"]["name"])
    world.settle()
    return world


def suspend(world: World) -> None:
    world.edit(suspend=True)
    world.settle()


def resume(world: World) -> None:
    world.edit(suspend=False)
    world.settle()


def test_job_created_suspended_starts_nothing_and_needs_no_inputs():
    world = World()
    world.apply(make_job().with_spec(suspend=True, startTimeoutSeconds=60).obj())
    world.settle()
    world.advance(3600)
    status = world.status()
    assert (status.phase, status.message) == (
        Phase.SUSPENDED,
        "suspended by spec.suspend; set it to false to start the job",
    )
    assert {c.type: (c.status, c.reason) for c in status.conditions if c.type == "Ready"} == {
        "Ready": ("False", "Suspended")
    }
    assert status.request is None
    assert world.cluster.as_user.list_objects("ConfigMap") == []

    resume(world)
    assert world.status().phase is Phase.PENDING, "the gate is missing"
    world.advance(30)
    world.apply(
        make_config_map("rows", train__jsonl="{}"),
        make_config_map("cases", golden__jsonl=golden_text()),
        make_gate().obj(),
    )
    assert world.run().phase is Phase.SUCCEEDED


@pytest.mark.parametrize("starts", [False, True], ids=["waiting for a pod", "running"])
@pytest.mark.parametrize("role", ["data", "train", "gate", "publish"])
def test_job_suspended_in_any_phase_resumes_with_the_next_attempt(role, starts):
    world = World()
    world.apply_all(make_job().with_publish().with_spec(activeDeadlineSeconds=300).obj())
    world.until_job(role)
    if starts:
        world.cluster.start_pod(world.active_jobs()[0]["metadata"]["name"])
        world.settle()
    suspend(world)
    assert world.status().phase is Phase.SUSPENDED
    assert world.active_jobs() == []
    writes = len(world.cluster.writes)
    world.advance(3600)
    assert len(world.cluster.writes) == writes, "nothing is written while the job is suspended"

    resume(world)
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    attempts = [(a.number, a.result) for a in status.attempts if a.role == role]
    assert attempts == [(1, "Suspended"), (2, "Succeeded")]


@pytest.mark.parametrize("fault", ["crash", "conflict"])
def test_running_time_of_a_suspended_attempt_survives_a_crash(fault):
    world = World()
    world.apply_all(make_job().with_spec(activeDeadlineSeconds=4000).obj())
    world.until_job("train")
    world.cluster.start_pod(world.active_jobs()[0]["metadata"]["name"])
    world.advance(3000)
    world.edit(suspend=True)
    if fault == "conflict":
        world.cluster.conflict()
        world.settle()
        world.advance(60)
    else:
        world.cluster.fail_before(2)  # the write after the status, or before it
        with pytest.raises(Crash):
            world.settle()
        world.boot()
        world.settle()
    status = world.status()
    assert status.phase is Phase.SUSPENDED
    assert world.active_jobs() == []
    assert [(a.role, a.number, a.result) for a in status.attempts][-1] == ("train", 1, "Suspended")
    assert status.running_seconds >= 3000


def test_suspension_undone_at_once_still_starts_a_new_attempt():
    world = training()
    world.edit(suspend=True)
    world.cluster.fail_before(2)
    with pytest.raises(Crash):
        world.settle()
    world.edit(suspend=False)
    world.boot()
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    trains = [(a.number, a.result) for a in status.attempts if a.role == "train"]
    assert trains == [(1, "Suspended"), (2, "Succeeded")]


def test_resumed_job_waits_until_the_suspended_attempt_has_ended():
    world = training()
    with world.late_children():
        suspend(world)
        resume(world)
        status = world.status()
        assert (status.phase, status.message) == (
            Phase.QUEUED,
            "train sft: ending attempt 1 (Suspended)",
        )
    assert world.run().phase is Phase.SUCCEEDED


def test_running_time_before_suspension_counts_once_despite_stale_cache():
    world = World()
    world.apply_all(make_job().with_spec(activeDeadlineSeconds=3600).obj())
    world.until_checkpoint()
    world.advance(2000)
    with world.late_children():
        suspend(world)
        used = world.status().running_seconds
        assert used > 2000
        world.edit(annotations={"note": "whatever wakes it"})
        world.settle()
        assert world.status().phase is Phase.SUSPENDED
    world.settle()
    assert world.status().running_seconds == used
    resume(world)
    assert world.run().phase is Phase.SUCCEEDED


def test_suspended_time_does_not_count_toward_any_timeout():
    world = World()
    world.apply_all(make_job().with_spec(activeDeadlineSeconds=100, startTimeoutSeconds=100).obj())
    world.until_checkpoint()
    used = world.status().running_seconds
    for _ in range(3):
        suspend(world)
        world.advance(1000)
        resume(world)
        assert world.status().phase is Phase.QUEUED
    assert world.status().running_seconds < used + 10
    assert world.run().phase is Phase.SUCCEEDED


def test_running_time_before_a_suspension_counts_toward_the_deadline():
    world = World()
    world.apply_all(make_job().with_spec(activeDeadlineSeconds=100).obj())
    world.until_checkpoint()
    world.advance(80)
    suspend(world)
    world.advance(1000)
    resume(world)
    world.cluster.start_pod(world.active_jobs()[0]["metadata"]["name"])
    world.settle()
    world.advance(19)
    failure = world.status().failure
    assert failure is not None
    assert failure.reason == "DeadlineExceeded"


def test_suspended_stopped_job_stays_stopped_until_continued():
    world = World(Script(checkpoints=REGRESSING))
    world.apply_all()
    stopped = world.run()
    suspend(world)
    assert world.status().phase is Phase.STOPPED
    assert world.status().message == stopped.message
    assert stopped.stop is not None
    world.edit(annotations={CONTINUE_ANNOTATION: '{"stop": "another", "reason": "accepted"}'})
    world.settle()
    assert world.status().message.startswith("annotation tunegate.dev/continue names stop another, but ")
    world.edit(annotations={CONTINUE_ANNOTATION: f'{{"stop": "{stopped.stop.id}", "reason": "accepted"}}'})
    world.settle()
    assert world.status().phase is Phase.SUSPENDED
    assert world.active_jobs() == []
    resume(world)
    assert world.run().phase is Phase.SUCCEEDED


def test_suspending_an_ended_job_changes_nothing():
    world = World()
    world.apply_all()
    ended = world.run()
    suspend(world)
    seen = world.status()
    assert (seen.phase, seen.message, seen.completion_time) == (
        Phase.SUCCEEDED,
        ended.message,
        ended.completion_time,
    )
    resume(world)
    assert world.status().phase is Phase.SUCCEEDED
    assert world.active_jobs() == []


def test_running_time_counts_once_after_many_suspensions():
    world = World()
    world.apply_all()
    world.until_checkpoint()
    suspend(world)
    seconds, times = world.status().running_seconds, MAX_ATTEMPTS + 5
    for _ in range(times):
        resume(world)
        world.cluster.start_pod(world.active_jobs()[0]["metadata"]["name"])
        world.advance(3)
        suspend(world)
    status = world.status()
    assert status.running_seconds == seconds + 3 * times
    assert len(status.attempts) == MAX_ATTEMPTS
    assert status.attempts[0].role == "data"
    resume(world)
    assert world.run().phase is Phase.SUCCEEDED


def test_job_suspended_right_after_continue_resumes_from_the_stop():
    world = World(Script(checkpoints=REGRESSING))
    world.apply_all()
    stop = world.run().stop
    assert stop is not None
    world.edit(annotations={CONTINUE_ANNOTATION: f'{{"stop": "{stop.id}", "reason": "go on"}}'})
    world.settle()
    suspend(world)
    resume(world)
    assert len(world.active_jobs()) == 1
    assert world.run().phase is Phase.SUCCEEDED
    assert [a.result for a in world.status().attempts if a.role == "train"] == [
        "Succeeded",
        "Suspended",
        "Succeeded",
    ]
