"""The seven lifecycle stages in ``status.lifecycle``, for each way in which a job can end."""

from support.builders import make_job
from support.world import Script, World, failed
from tunegate_api.contract.process import ExitCode
from tunegate_api.v1alpha2.finetunejob_status import LifecycleEntry
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.names import CONTINUE_ANNOTATION

STAGES = [
    *("DataPreparation", "ModelInitialization", "TrainingSetup", "FineTuning"),
    *("EvaluationAndValidation", "Deployment", "Monitoring"),
]
DROPPING = {10: 60, 20: 80, 22: 60, 24: 60, 30: 90, 40: 94, 50: 92}


def lifecycle(world: World) -> list[LifecycleEntry]:
    entries = world.status().lifecycle
    assert [entry.stage for entry in entries] == STAGES
    return entries


def states(world: World) -> list[str]:
    return [entry.state for entry in lifecycle(world)]


def run(script: Script | None = None, *, publish: bool = True) -> World:
    world = World(script)
    job = make_job().with_publish() if publish else make_job()
    world.apply_all(job.obj())
    world.run()
    return world


def test_published_job_has_succeeded_in_all_requested_lifecycle_stages():
    world = run()
    assert states(world) == ["Succeeded"] * 6 + ["NotRequested"]
    times = [(entry.started, entry.finished) for entry in lifecycle(world)[:6]]
    assert all(started and finished and started <= finished for started, finished in times)
    assert [started for started, _ in times] == sorted(started for started, _ in times if started)
    training = lifecycle(world)[3]
    assert training.started
    assert training.finished
    assert (training.finished - training.started).total_seconds() >= 5, "one checkpoint each second"
    assert lifecycle(world)[6].started is None


def test_deployment_is_not_requested_without_publish_targets():
    assert states(run(publish=False))[5] == "NotRequested"


def test_lifecycle_stages_start_in_order():
    world = World()
    world.apply_all(make_job().with_publish().obj())
    seen: list[list[str]] = []
    for _ in range(40):
        world.settle()
        if world.status().lifecycle and (not seen or seen[-1] != states(world)[:6]):
            seen.append(states(world)[:6])
        if not world.tick():
            break
    assert seen == [
        ["Pending"] * 6,
        ["Running", "Running", *["Pending"] * 4],
        ["Succeeded", "Succeeded", "Running", *["Pending"] * 3],
        [*["Succeeded"] * 3, "Running", "Pending", "Pending"],
        [*["Succeeded"] * 4, "Running", "Pending"],
        [*["Succeeded"] * 5, "Running"],
        ["Succeeded"] * 6,
    ]


def test_failed_job_shows_later_lifecycle_stages_as_not_reached():
    world = run(Script(exits={"data": [failed(ExitCode.BAD_DATA, "BadData", "a row")]}))
    assert states(world) == ["Failed", "Succeeded", *["NotReached"] * 4, "NotRequested"]
    assert lifecycle(world)[0].finished is not None
    world = run(Script(exits={"data": [failed(ExitCode.NOT_FOUND, "NotFound", "no such model")]}))
    assert states(world) == ["Failed", "Failed", *["NotReached"] * 4, "NotRequested"]
    world = run(Script(exits={"gate": [failed(ExitCode.CUDA_OUT_OF_MEMORY, "CudaOutOfMemory", "2 GiB")]}))
    assert states(world) == [*["Succeeded"] * 4, "Failed", "NotReached", "NotRequested"]
    world = run(Script(final=20))
    assert states(world) == [*["Succeeded"] * 4, "Failed", "NotReached", "NotRequested"]


def test_stopped_and_continued_job_stays_in_lifecycle_stage_fine_tuning():
    world = run(Script(checkpoints=DROPPING))
    assert world.status().phase is Phase.STOPPED
    assert states(world)[2:5] == ["Succeeded", "Stopped", "Pending"]
    began = lifecycle(world)[3].started
    stop = world.status().stop
    assert stop is not None
    world.edit(annotations={CONTINUE_ANNOTATION: f'{{"stop": "{stop.id}", "reason": "known"}}'})
    world.settle()
    assert states(world)[2:5] == ["Succeeded", "Running", "Pending"], "training was set up before"
    assert lifecycle(world)[3].started == began


def test_job_suspended_in_gating_shows_evaluation_suspended():
    world = World()
    world.apply_all(make_job().with_publish().obj())
    world.until_job("gate")
    world.edit(suspend=True)
    world.settle()
    assert states(world) == [*["Succeeded"] * 4, "Suspended", "Pending", "NotRequested"]


def test_job_suspended_in_training_shows_fine_tuning_suspended():
    world = World()
    world.apply_all()
    world.until_checkpoint()
    world.edit(suspend=True)
    world.settle()
    assert states(world)[2:5] == ["Succeeded", "Suspended", "Pending"]
    world.edit(suspend=False)
    world.settle()
    assert states(world)[2:5] == ["Succeeded", "Running", "Pending"]


def test_spec_that_becomes_invalid_fails_the_current_lifecycle_stage():
    world = World()
    world.apply(make_job().with_publish().obj())
    world.settle()
    world.edit(taskMetrics=[])
    world.settle()
    assert world.status().phase is Phase.FAILED
    assert states(world) == [*["Failed"] * 2, *["NotReached"] * 4, "NotRequested"]


def test_held_job_stays_in_its_lifecycle_stage():
    world = World()
    world.apply_all(make_job().with_publish().obj())
    world.until_checkpoint()
    before = states(world)
    world.edit(taskMetrics=[])
    world.settle()
    assert world.condition("Stalled").reason == Reason.SPEC_NOT_UNDERSTOOD
    assert states(world) == before
