"""After a job has ended, a track pod sends the metrics that the job's own pods could not send."""

from datetime import timedelta

import pytest

from support.builders import make_job
from support.world import Script, World, failed
from tunegate_api.contract.process import ExitCode
from tunegate_api.meta import MAX_MESSAGE
from tunegate_api.v1alpha2.reasons import Phase
from tunegate_operator.children.job import BACKOFF_LIMIT, GRACE_SECONDS
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.finetunejob.tracking import LOOK_SECONDS
from tunegate_operator.names import DISCARD_ANNOTATION

TRACKING = {
    "mlflow": {"uri": "http://mlflow.internal", "experiment": "orders"},
    "wandb": {"project": "orders"},
}
WORSE = {10: 60, 20: 95, 30: 80, 40: 80, 50: 80}
DAY = 24 * 3600


def tracked(script: Script, **spec: object) -> World:
    world = World(script)
    world.apply_all(make_job().with_spec(**{"tracking": TRACKING, **spec}).obj())
    return world


def until_ended(world: World) -> None:
    """Let the operator and the pods act in turns until the job has ended and no decision is due."""
    for _ in range(60):
        world.settle()
        if world.status().completion_time:
            return
        world.tick()
    raise AssertionError(f"not ended: {world.status().message}")


def track_job(world: World) -> Object:
    (job,) = world.active_jobs()
    assert job["metadata"]["labels"]["tunegate.dev/role"] == "track"
    return job


def arguments(job: Object) -> list[str]:
    args: list[str] = job["spec"]["template"]["spec"]["containers"][0]["args"]
    return args


def test_track_pod_sends_remaining_metrics_to_an_unreachable_tracker():
    world = tracked(Script(behind=["mlflow"]))
    until_ended(world)
    before = world.status()
    assert before.phase is Phase.SUCCEEDED, "the job does not wait for a tracker"
    assert before.tracking is not None
    assert (before.tracking.behind, before.tracking.result) == (["mlflow"], None)
    assert arguments(track_job(world)) == ["track", "--attempt", "1", "--trackers", "mlflow"]
    world.run()
    status = world.status()
    assert status.tracking is not None
    assert (status.tracking.result, status.tracking.message) == (
        "Succeeded",
        "sent the remaining metrics to mlflow",
    )
    assert status.model_copy(update={"tracking": None}) == before.model_copy(update={"tracking": None})
    assert [reason for reason in world.events() if "Trackers" in reason] == ["TrackersBehind", "TrackersTold"]


@pytest.mark.parametrize("script", [Script(behind=[]), Script(behind=[], final=79)])
def test_no_track_pod_starts_when_the_last_pod_sent_everything(script: Script):
    world = tracked(script)
    status = world.run()
    assert status.phase is not None
    assert status.phase.is_final
    assert status.tracking is None
    assert not any("-track-" in name for name in world.jobs())


def test_no_track_pod_starts_if_the_failure_was_sent():
    world = tracked(Script(exits={"data": [failed(ExitCode.BAD_DATA, "BadData", "row 3", behind=[])]}))
    assert world.run().phase is Phase.FAILED
    assert world.status().tracking is None


def test_track_pod_sends_a_failure_that_only_the_operator_knows():
    world = tracked(Script(behind=[]), activeDeadlineSeconds=600)
    world.until_checkpoint()
    world.advance(600)
    until_ended(world)
    status = world.status()
    assert status.failure is not None
    assert status.failure.reason == "DeadlineExceeded"
    args = arguments(track_job(world))
    assert args[-2:] == ["--failure", f"DeadlineExceeded: {status.failure.message}"]
    world.run()
    assert world.status().tracking.result == "Succeeded"


@pytest.fixture
def saving() -> tuple[World, Object]:
    """Return a world whose job failed at its deadline, and a pod of the job that is still running."""
    world = tracked(Script(behind=[]), activeDeadlineSeconds=600)
    world.until_checkpoint()
    (job,) = world.active_jobs()
    (pod,) = world.cluster.pods_of(job["metadata"]["name"])
    metadata = {
        "name": "saving",
        "namespace": "default",
        "labels": pod["metadata"]["labels"],
    }  # without a Job
    left = world.cluster.as_user.create({**pod, "metadata": metadata})
    world.cluster.as_user.patch_status(Key.of(left), pod["status"], left["metadata"]["resourceVersion"])
    world.advance(600)
    until_ended(world)
    world.advance(GRACE_SECONDS - 10)
    assert world.active_jobs() == [], "the pod may still report a running job"
    return world, left


def test_track_pod_starts_when_the_last_pod_has_ended(saving):
    world, left = saving
    world.cluster.as_user.delete(Key.of(left), left["metadata"]["uid"])
    world.advance(LOOK_SECONDS)
    track_job(world)


def test_track_pod_starts_after_the_last_pods_grace_period(saving):
    world, _ = saving
    world.advance(10)
    track_job(world)


def after_a_failed_attempt(**spec: object) -> World:
    """Return a world whose job trains in its second attempt. The pod of the first attempt sent trackers the
    failure of the job, and the pod of the second attempt sent them that the job is running."""
    before = failed(ExitCode.INTERNAL_ERROR, "InternalError", "once", behind=[])
    world = tracked(Script(behind=[]), **spec)
    world.until_checkpoint()
    (job,) = world.active_jobs()
    world.cluster.finish_pod(job["metadata"]["name"], *before)
    world.cluster.fail_job(job["metadata"]["name"], "BackoffLimitExceeded", before[1])
    world.settle()
    assert [a.result for a in world.status().attempts] == ["Succeeded", "InternalError"]
    world.tick()
    return world


def test_tracking_status_ignores_the_behind_list_of_an_earlier_attempt():
    world = after_a_failed_attempt(activeDeadlineSeconds=600)
    world.advance(600)
    until_ended(world)
    assert world.status().failure.reason == "DeadlineExceeded"
    assert world.status().tracking.behind == ["mlflow", "wandb"]


def test_all_trackers_lack_metrics_if_last_job_is_deleted():
    world = after_a_failed_attempt(startTimeoutSeconds=300)
    world.edit(suspend=True)
    world.settle()
    world.edit(suspend=False)
    world.cluster.forbid("Job", "exceeded quota")
    for _ in range(10):
        world.advance(60)
    assert world.status().failure.reason == "StartTimeout"
    assert world.status().tracking.behind == ["mlflow", "wandb"]


def test_track_pod_that_never_ends_is_deleted_after_a_day():
    world = tracked(Script(behind=["mlflow"]))
    until_ended(world)
    job = track_job(world)
    world.cluster.start_pod(job["metadata"]["name"])
    for _ in range(25):
        world.advance(3600)
    assert world.status().tracking.result == "TrackerBehind"
    assert world.active_jobs() == []


def test_variable_reference_in_a_failure_is_escaped_for_tracking():
    script = Script(exits={"data": [failed(ExitCode.BAD_DATA, "BadData", "row 3: $(TOKEN)\0\n")]})
    world = tracked(script)
    until_ended(world)
    assert arguments(track_job(world))[-1] == "BadData: row 3: $$(TOKEN)\\x00 "


@pytest.mark.parametrize("sender", [0, 1])
def test_status_has_tracking_result_of_the_pod_sending_metrics(sender: int):
    worst = dict.fromkeys((10, 20, 30, 40, 50), 10)
    world = tracked(Script(behind=[], checkpoints=worst), resources={"accelerator": "CPU", "nodes": 2})
    world.metrics_sender = sender
    status = world.run()
    assert status.failure.reason == "NoPassingCheckpoint"
    assert status.tracking is None


def test_track_pod_sends_the_failure_of_a_discarded_run():
    world = tracked(Script(behind=[], checkpoints=WORSE))
    stopped = world.run()
    assert stopped.phase is Phase.STOPPED
    assert stopped.tracking is None, "a person decides; another pod may start"
    world.edit(annotations={DISCARD_ANNOTATION: f'{{"stop": "{stopped.stop.id}", "reason": "worse"}}'})
    world.settle()
    assert arguments(track_job(world))[-1].startswith("Discarded: ")


def test_all_trackers_lack_metrics_without_a_termination_message():
    world = tracked(Script(exits={"data": [(137, "")] * 9}))
    until_ended(world)
    assert world.status().phase is Phase.FAILED
    assert world.status().tracking.behind == ["mlflow", "wandb"]


def test_job_that_never_ran_has_no_tracking_status():
    world = tracked(Script(), startTimeoutSeconds=60)
    world.settle()
    world.advance(61)
    assert world.status().failure.reason == "StartTimeout"
    assert world.status().tracking is None


def live_for(world: World, seconds: int) -> None:
    """Let this time pass. Every pod that starts meanwhile also ends."""
    end = world.clock.now() + timedelta(seconds=seconds)
    while world.clock.now() < end:
        while world.tick():
            world.settle()
        world.advance(60)


@pytest.mark.slow
def test_unreachable_tracker_is_retried_by_new_pods_for_a_day():
    world = tracked(Script(behind=["mlflow"], exits={"track": [(1, "away " * 250)] * 999}))
    until_ended(world)
    live_for(world, DAY // 2)
    waiting = world.status().tracking
    assert waiting.result is None
    assert waiting.attempts > 5
    assert waiting.message.startswith(f"attempt {waiting.attempts}: away")
    assert sum("-track-" in name for name in world.jobs()) == 1, "earlier ones are removed"
    live_for(world, DAY)
    tracking, uid = world.status().tracking, world.job()["metadata"]["uid"]
    assert tracking.result == "TrackerBehind"
    assert tracking.message.startswith(
        f"mlflow may lack metrics, which are in the folder tunegate/jobs/{uid} on the claim "
    )
    assert len(world.job()["status"]["tracking"]["message"]) == MAX_MESSAGE, "the limit of the API"
    assert world.events()[-1] == "TrackersBehind"
    tries = [w for w in world.cluster.writes if w.verb == "create" and "-track-" in w.name]
    assert 12 <= len(tries) <= 18
    before = len(world.cluster.writes)
    world.boot()
    world.advance(DAY)
    assert len(world.cluster.writes) == before, "nothing is tried any more"


def test_tracker_that_is_reachable_after_hours_gets_the_metrics():
    seven_jobs = [(1, "away")] * 7 * (1 + BACKOFF_LIMIT)
    world = tracked(Script(behind=["mlflow"], exits={"track": seven_jobs}))
    until_ended(world)
    live_for(world, DAY // 2)
    assert (world.status().tracking.result, world.status().tracking.attempts) == ("Succeeded", 7)


def test_restarted_operator_does_not_start_a_second_track_pod():
    world = tracked(Script(behind=["wandb"]))
    until_ended(world)
    world.boot()
    world.run()
    assert world.status().tracking.result == "Succeeded"
    assert [w.verb for w in world.cluster.writes if "-track-" in w.name] == ["create"]


def test_cleanup_waits_until_trackers_have_the_metrics():
    world = tracked(Script(behind=["mlflow"]), ttlSecondsAfterFinished=0)
    until_ended(world)
    world.advance(3600)
    track_job(world)
    world.run()
    status = world.status()
    assert status.tracking.result == "Succeeded"
    assert status.cleanup is not None
    assert status.cleanup.result == "Succeeded"
    assert world.jobs() == []


def test_refused_track_pod_does_not_delay_the_jobs_end():
    world = tracked(Script(behind=["mlflow"]), publish=[])
    world.until_job("gate")
    world.cluster.forbid("Job", "exceeded quota")
    until_ended(world)
    assert world.status().phase is Phase.SUCCEEDED
    world.cluster.forbid("Job", None)
    world.advance(60)
    track_job(world)


def test_track_pod_forbidden_for_a_day_is_not_retried():
    world = tracked(Script(behind=["mlflow"]), publish=[])
    world.until_job("gate")
    world.cluster.forbid("Job", "exceeded quota")
    until_ended(world)
    for _ in range(25):
        world.advance(3600)
    tracking = world.status().tracking
    assert tracking.result == "TrackerBehind"
    assert "exceeded quota" in tracking.message
