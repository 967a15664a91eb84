"""What the hint says to change if no checkpoint of a stage passed its gates."""

import pytest

from support.builders import GOLDEN_CASES, make_gate
from support.world import Script, World
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.v1alpha2.reasons import Reason


def failure_of(script: Script) -> Failure:
    world = World(script)
    world.apply_all()
    failure = world.run().failure
    assert failure is not None
    assert failure.reason == Reason.NO_PASSING_CHECKPOINT
    return failure


def test_hint_names_truncated_outputs_if_most_lost_cases_were_truncated():
    failure = failure_of(Script(checkpoints={10: 20, 50: "p" * 60 + "t" * 30 + "f" * 10}))
    assert failure.hint == (
        "30 of the 40 cases of golden that did not pass were truncated: raise generation.maxNewTokens in a "
        "new EvalGate, and create the job again."
    )


def test_hint_recommends_rows_if_few_outputs_were_truncated():
    failure = failure_of(Script(checkpoints={50: "p" * 60 + "t" * 10 + "f" * 30}))
    assert failure.hint == "The report shows which cases still fail: add more or better rows for them."


def test_hint_ignores_truncated_outputs_of_advisory_cases():
    """They are not among the cases that did not pass."""
    advisory = [f"case-{i}" for i in range(70, GOLDEN_CASES)]
    world = World(Script(checkpoints={50: "p" * 55 + "f" * 15 + "t" * 30}))
    world.apply_all(gate=make_gate().with_golden(advisory=advisory).obj())
    failure = world.run().failure
    assert failure is not None
    assert "golden 55/70 = 0.78, required 0.80" in failure.message
    assert failure.hint == "The report shows which cases still fail: add more or better rows for them."


def test_hint_recommends_another_gate_if_checkpoints_are_only_inconclusive():
    """More rows would not help if truncated outputs of the base model hide a drop."""
    failure = failure_of(Script(base="t" * GOLDEN_CASES, checkpoints={50: 85}))
    assert "100 outputs of BaseModel were truncated" in failure.message
    assert "raise generation.maxNewTokens" in failure.message
    assert failure.hint == "Change what the message names in a new EvalGate, and create the job again."


@pytest.mark.parametrize("letter", ["t", "f"])
def test_final_gate_names_truncated_outputs_too(letter):
    world = World(Script(final="p" * 60 + letter * 40))
    world.apply_all(gate=make_gate().obj())
    failure = world.run().failure
    assert failure is not None
    assert failure.reason == Reason.GATE_FAILED
    assert ("40 of the 40 cases of golden that did not pass were truncated" in failure.hint) == (
        letter == "t"
    )
    assert failure.hint.startswith("Nothing was published.")


@pytest.mark.parametrize("gate", [make_gate(), make_gate().with_limits(minPassRate=None)])
def test_gate_error_if_no_case_of_any_checkpoint_was_measured(gate):
    world = World(Script(checkpoints={10: "e" * GOLDEN_CASES, 50: "e" * GOLDEN_CASES}))
    world.apply_all(gate=gate.obj())
    failure = world.run().failure
    assert failure is not None
    assert failure.reason == Reason.GATE_ERROR


def test_gate_error_if_another_equally_near_checkpoint_is_inconclusive():
    """The judge of the gate answered nothing, but was not asked about the truncated outputs."""
    every = GOLDEN_CASES
    world = World(Script(base="t" * every, checkpoints={10: "t" * every, 50: "e" * every}))
    world.apply_all(gate=make_gate().with_limits(minPassRate=None).obj())
    failure = world.run().failure
    assert failure is not None
    assert failure.reason == Reason.GATE_ERROR
    assert "the nearest is step 50" in failure.message
