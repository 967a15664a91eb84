"""A job ends after the evaluation of its starting model if no checkpoint can pass."""

from support.builders import GOLDEN_CASES, make_gate, make_job
from support.world import Script, World
from tunegate_api.contract.results import Results, Subject
from tunegate_api.v1alpha2.reasons import Phase, Reason

FEW_GROUPS = [case // 10 for case in range(GOLDEN_CASES)]
"""Ten groups, which are too few for the policy NonInferior if the base model passes all cases."""
NON_INFERIOR = make_gate().with_limits(test="NonInferior")


def test_job_ends_before_training_if_no_checkpoint_can_pass():
    world = World(Script(base="t" * GOLDEN_CASES, groups=FEW_GROUPS))
    world.apply_all(make_job().with_publish().obj(), NON_INFERIOR.obj())
    status = world.run()
    assert (status.phase, status.display.gate) == (Phase.FAILED, "Failed")
    assert status.failure is not None
    assert status.failure.reason == Reason.NO_CHECKPOINT_CAN_PASS
    assert status.failure.message.startswith(
        "stage sft was not trained: a checkpoint that passes every case of golden is Inconclusive"
    )
    assert "100 outputs of BaseModel were truncated" in status.failure.message
    assert status.failure.hint == "Change what the message names in a new EvalGate, and create the job again."
    assert not status.checkpoints
    assert world.events().count("NoCheckpointCanPass") == 1


def test_job_trains_if_its_base_model_leaves_room():
    world = World(Script(groups=FEW_GROUPS))
    world.apply_all(gate=NON_INFERIOR.obj())
    status = world.run()
    assert status.checkpoints
    assert status.failure is None or status.failure.reason != Reason.NO_CHECKPOINT_CAN_PASS


def test_job_ends_if_new_scores_rule_out_every_checkpoint():
    """A judge did not answer, so a checkpoint was trained. The resumed pod has only the starting model, whose
    outputs were scored again."""
    script = Script(base="e" + "t" * (GOLDEN_CASES - 1), groups=FEW_GROUPS, checkpoints={10: 20, 50: 20})
    world = World(script)
    world.apply_all(gate=NON_INFERIOR.obj())
    world.until_checkpoint()
    script.base = "t" * GOLDEN_CASES
    start = script.evaluation(Subject.START, 0, time=world.clock.now())
    report = world.outbox["train-sft.json"]
    resumed = Results(sets=script.sets(), evaluations=[start])
    world.outbox["train-sft.json"] = report.model_copy(update={"results": resumed})
    status = world.run()
    assert status.failure is not None
    assert status.failure.reason == Reason.NO_CHECKPOINT_CAN_PASS
    assert status.failure.message.startswith("stage sft was not trained after step 10: a checkpoint that")


def test_trainer_that_ends_early_without_a_cause_is_not_believed():
    """A pod may have been tampered with. The operator judges the case outcomes itself."""
    world = World(Script(checkpoints={}))
    world.apply_all()
    failure = world.run().failure
    assert failure is not None
    assert failure.reason == Reason.GATE_ERROR
    assert "its case results give no reason to stop" in failure.message
