"""After the end: a pod tells trackers what the job's own pods could not."""

import pytest

from support.builders import make_job
from support.world import Script, World, failed
from tunegate_api.contract import ExitCode
from tunegate_api.v1alpha1.finetunejob_status import Phase
from tunegate_operator.engine.cluster import Object
from tunegate_operator.finetunejob.build import GRACE_SECONDS
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
    """Turns until the job has ended, and the operator did what follows at once."""
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


def test_a_tracker_that_was_away_as_the_last_pod_ended_is_told_the_rest():
    world = tracked(Script(behind=["mlflow"]))
    until_ended(world)
    before = world.status()
    assert before.phase is Phase.SUCCEEDED, "nobody waits for a tracker"
    assert before.tracking is not None
    assert (before.tracking.behind, before.tracking.result) == (["mlflow"], None)
    assert arguments(track_job(world)) == ["track", "--attempt", "1"]
    world.run()
    status = world.status()
    assert status.tracking is not None
    assert (status.tracking.result, status.tracking.message) == ("Succeeded", "told mlflow the rest")
    assert status.model_copy(update={"tracking": None}) == before.model_copy(update={"tracking": None})
    assert [reason for reason in world.events() if "Trackers" in reason] == ["TrackersBehind", "TrackersTold"]


@pytest.mark.parametrize("script", [Script(behind=[]), Script(behind=[], final=79)])
def test_nothing_follows_where_the_last_pod_told_everything(script: Script):
    world = tracked(script)
    status = world.run()
    assert status.phase is not None
    assert status.phase.is_final
    assert status.tracking is None
    assert not any("-track-" in name for name in world.jobs())


def test_a_failure_that_the_pod_told_itself_needs_no_other():
    world = tracked(Script(exits={"data": [failed(ExitCode.BAD_DATA, "BadData", "row 3", behind=[])]}))
    assert world.run().phase is Phase.FAILED
    assert world.status().tracking is None


def test_what_only_the_operator_ended_trackers_hear_from_another_pod():
    world = tracked(Script(behind=[]), activeDeadlineSeconds=600)
    world.until_checkpoint()
    world.advance(600)
    until_ended(world)
    status = world.status()
    assert status.failure is not None
    assert status.failure.reason == "DeadlineExceeded"
    assert world.active_jobs() == [], "the pod that was asked to stop may still say that it goes on"
    world.advance(GRACE_SECONDS)
    told = arguments(track_job(world))
    assert told[-2:] == ["--failure", f"DeadlineExceeded: {status.failure.message}"]
    world.run()
    assert world.status().tracking.result == "Succeeded"


def test_a_discarded_run_has_failed_at_its_trackers_too():
    world = tracked(Script(behind=[], checkpoints=WORSE))
    stopped = world.run()
    assert stopped.phase is Phase.STOPPED
    assert stopped.tracking is None, "a person decides; another pod may follow"
    world.edit(annotations={DISCARD_ANNOTATION: f'{{"stop": "{stopped.stop.id}", "reason": "worse"}}'})
    world.settle()
    assert arguments(track_job(world))[-1].startswith("Discarded: ")


def test_a_pod_that_left_no_word_may_have_told_nothing():
    world = tracked(Script(exits={"data": [(137, "")] * 9}))
    until_ended(world)
    assert world.status().phase is Phase.FAILED
    assert world.status().tracking.behind == ["mlflow", "wandb"]


def test_a_job_that_never_ran_has_nothing_to_tell():
    world = tracked(Script(), startTimeoutSeconds=60)
    world.settle()
    world.advance(61)
    assert world.status().failure.reason == "StartTimeout"
    assert world.status().tracking is None


def test_a_tracker_that_stays_away_is_said_and_the_rest_stays_where_it_is():
    world = tracked(Script(behind=["mlflow"], exits={"track": [(1, "away")] * 9}))
    until_ended(world)
    while world.tick():
        world.settle()
    tracking, uid = world.status().tracking, world.job()["metadata"]["uid"]
    assert tracking.result == "InternalError"
    assert tracking.message.startswith(f"mlflow may lack what is in the folder {uid} of the claim ")
    assert world.events()[-1] == "TrackersBehind"
    before = len(world.cluster.writes)
    world.boot()
    world.advance(DAY)
    assert len(world.cluster.writes) == before, "it is over"


def test_an_operator_that_starts_anew_goes_on_where_trackers_are_behind():
    world = tracked(Script(behind=["wandb"]))
    until_ended(world)
    world.boot()
    world.run()
    assert world.status().tracking.result == "Succeeded"
    assert sum("-track-" in name for name in world.jobs()) == 1


def test_files_stay_until_trackers_heard_of_them():
    world = tracked(Script(behind=["mlflow"]), ttlSecondsAfterFinished=0)
    until_ended(world)
    world.advance(DAY - 1)
    track_job(world)
    world.run()
    status = world.status()
    assert status.tracking.result == "Succeeded"
    assert status.cleanup is not None
    assert status.cleanup.result == "Succeeded"
    assert world.jobs() == []


def test_a_pod_that_is_refused_does_not_hold_the_job_back():
    world = tracked(Script(behind=["mlflow"]), publish=[])
    world.until_job("gate")
    world.cluster.forbid("Job", "exceeded quota")
    until_ended(world)
    assert world.status().phase is Phase.SUCCEEDED
    world.cluster.forbid("Job", None)
    world.advance(60)
    track_job(world)


def test_a_pod_that_is_refused_for_good_is_said():
    world = tracked(Script(behind=["mlflow"]), publish=[])
    world.until_job("gate")
    world.cluster.forbid("Job", "exceeded quota")
    until_ended(world)
    for _ in range(25):
        world.advance(3600)
    tracking = world.status().tracking
    assert tracking.result == "Refused"
    assert "exceeded quota" in tracking.message
