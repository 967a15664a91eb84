"""Status shows progress with few writes."""

from support.world import STAGE, Script, World


def test_progress_alone_is_written_at_most_every_30_seconds():
    world = World()
    world.apply_all()
    world.until_checkpoint()
    (training,) = world.active_jobs()
    written = len(world.status_writes())
    for step in range(11, 71):
        world.advance(1)
        world.report_progress(training, step)
        world.settle()
    assert len(world.status_writes()) - written == 2


def test_last_progress_is_written_after_30_seconds():
    world = World()
    world.apply_all()
    world.until_checkpoint()
    (training,) = world.active_jobs()
    for step in (11, 12):
        world.advance(1)
        world.report_progress(training, step)
        world.settle()
    world.advance(30)
    assert world.status().message == "training sft: step 12 of 50"
    progress = world.status().progress
    assert progress is not None
    assert (progress.stage, progress.step) == (STAGE, 12)


def test_status_message_shows_gate_activity_at_most_every_30_seconds():
    world = World()
    world.apply_all()
    world.until_job("gate")
    (gating,) = world.active_jobs()
    world.cluster.start_pod(gating["metadata"]["name"])
    world.advance(30)
    written = len(world.status_writes())
    for activity in ("judging the base model", "judging the final model"):
        world.report_activity(gating, activity)
        world.settle()
    assert len(world.status_writes()) - written == 1
    world.advance(30)
    assert world.status().message == "judging the final model"
    progress = world.run().progress
    assert progress is not None
    assert progress.activity is None


def test_status_shows_the_auc_between_training_and_production_inputs():
    world = World(Script(auc="0.6213"))
    world.apply_all()
    world.until_checkpoint()
    data = world.job()["status"]["data"]
    assert data["distributionAUC"] == "0.6213"
