"""Checkpoints are judged by the safety set of a gate, and a safety regression stops training."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from support.builders import make_gate, make_job
from support.world import STAGE, Script, World
from tunegate_api.cases.case_lines import parse_cases
from tunegate_api.cases.safety_cases import SafetyCase
from tunegate_api.safety_sets import builtin_text
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_api.verdict.outcomes import VerdictState
from tunegate_api.verdict.safety import SafetyKind
from tunegate_operator.names import CONTINUE_ANNOTATION, DISCARD_ANNOTATION

CASES = parse_cases(builtin_text("refusals-v1"), SafetyCase)
UNSAFE = [case.id for case in CASES if case.kind is SafetyKind.UNSAFE]
GOOD = "p" * len(CASES)
LIMIT = 32 * 1024
GOLDEN = {10: 92, 20: 93, 30: 94, 40: 96, 50: 95}
"""How many of the 100 golden cases pass at each checkpoint."""


def unsafe(count: int) -> str:
    """Return the outcomes of a model that complies with the first harmful requests."""
    bad = UNSAFE[:count]
    return "".join("f" if case.id in bad else "p" for case in CASES)


BUILTIN = {"builtin": "refusals-v1"}
CONFIRM = {"source": BUILTIN, "checkpoints": {"onRegression": "Confirm"}}


def world(safety: Mapping[int, str], final: str = GOOD, *, gate: Mapping[str, Any] | None = None) -> World:
    """Run a job whose checkpoints have these outcomes on the safety set. ``gate`` has fields of the set."""
    outcomes = {0: GOOD} | dict(safety)
    made = World(Script(checkpoints=GOLDEN, safety=(GOOD, final), safety_at_checkpoints=outcomes))
    made.apply_all(make_job().with_publish().obj(), make_gate().with_safety(**(gate or CONFIRM)).obj())
    made.run()
    return made


def immediate(on_regression: str = "Immediate", **fields: Any) -> dict[str, Any]:
    return {"source": BUILTIN, "checkpoints": {"onRegression": on_regression}} | fields


def decide(stopped: World, annotation: str) -> None:
    stop = stopped.status().stop
    assert stop is not None
    stopped.edit(annotations={annotation: json.dumps({"stop": stop.id, "reason": "the answers are fine"})})
    stopped.settle()


REGRESSING = {20: unsafe(3), 30: unsafe(3), 40: unsafe(4), 50: unsafe(4)}


def test_confirmed_safety_regression_stops_training_and_names_the_cases():
    stopped = world(REGRESSING)
    status = stopped.status()
    assert status.phase is Phase.STOPPED
    assert status.stop is not None
    assert (status.stop.reason, status.stop.gate, status.stop.step) == ("SafetyRegression", "golden", 30)
    total = len(UNSAFE)
    assert (
        status.message
        == status.stop.message
        == (
            f"unsafe 3/{total} at step 30, starting model 0/{total}: +3, at most +0, confirmed; "
            f"newly unsafe 3: {', '.join(UNSAFE[:3])}"
        )
    )
    assert (status.stop.regressed_count, status.stop.regressed_cases) == (3, UNSAFE[:3])
    assert status.stop.best_step == 10, "the best checkpoint that passed"
    assert status.best_checkpoint is not None
    assert status.best_checkpoint.step == 10


def test_status_shows_the_safety_set_of_each_checkpoint():
    checkpoints = world(REGRESSING).status().checkpoints
    results = [(c.step, c.gates[0].verdict, c.gates[0].safety) for c in checkpoints]
    assert [(step, verdict) for step, verdict, _ in results] == [
        (10, VerdictState.PASSED),
        (20, VerdictState.FAILED),
        (30, VerdictState.FAILED),
    ]
    texts = [safety.text for *_, safety in results if safety]
    total, harmless = len(UNSAFE), len(CASES) - len(UNSAFE)
    assert texts == [f"unsafe {n}/{total}, over-refused 0/{harmless}" for n in (0, 3, 3)]
    named = [safety.newly_unsafe for *_, safety in results if safety]
    assert named == [None, None, UNSAFE[:3]], "only the last checkpoint names its cases"


def test_conditions_and_events_name_the_safety_set():
    stopped = world(REGRESSING)
    assert stopped.condition("Stalled").reason == "SafetyRegression"
    regressing = stopped.condition("Regressing")
    assert (regressing.status, regressing.reason) == ("True", "SafetyRegressing")
    warnings = [(reason, text) for _, kind, reason, text in stopped.cluster.events if kind == "Warning"]
    assert [reason for reason, _ in warnings] == [
        "CheckpointEvaluated",
        "SafetyRegressing",
        "CheckpointEvaluated",
        "SafetyRegression",
    ]
    assert "golden Failed, golden 93/100 = 0.93, best so far 0.93, unsafe 3/" in warnings[0][1]
    assert "Training stopped, step 10 kept" in warnings[-1][1]


def test_continued_job_is_compared_with_the_accepted_checkpoint():
    stopped = world(REGRESSING)
    decide(stopped, CONTINUE_ANNOTATION)
    status = stopped.run()
    assert status.stop is not None
    assert status.stop.step == 50
    assert status.stop.message.startswith(f"unsafe 4/{len(UNSAFE)} at step 50, step 30 3/{len(UNSAFE)}: +1")


def test_continued_job_that_gets_no_worse_publishes_a_passing_checkpoint():
    stopped = world({20: unsafe(3), 30: unsafe(3), 40: unsafe(3), 50: GOOD})
    decide(stopped, CONTINUE_ANNOTATION)
    status = stopped.run()
    assert status.phase is Phase.SUCCEEDED
    assert status.best_checkpoint is not None
    assert status.best_checkpoint.step == 50, "step 40 has the highest golden rate, but fails"


def test_discarded_job_fails():
    stopped = world(REGRESSING)
    decide(stopped, DISCARD_ANNOTATION)
    failure = stopped.status().failure
    assert failure is not None
    assert failure.reason == Reason.DISCARDED


def test_immediate_gate_stops_before_a_checkpoint_passes():
    stopped = world({10: unsafe(1), 20: unsafe(1)}, gate=immediate())
    status = stopped.status()
    assert status.stop is not None
    assert (status.stop.step, status.stop.best_step) == (10, None)
    assert "Training stopped, no checkpoint passed" in stopped.cluster.events[-1][3]


def test_increase_up_to_the_limit_does_not_stop_training():
    every = {step: unsafe(2) for step in (10, 20, 30, 40, 50)}
    assert (
        world(every, unsafe(2), gate=immediate(rules=[{"name": "unsafe", "failAtDrop": 3}])).status().phase
        is Phase.SUCCEEDED
    )


def test_gate_that_continues_selects_only_safe_checkpoints():
    status = world(REGRESSING, gate=immediate("Continue")).status()
    assert status.phase is Phase.SUCCEEDED
    assert status.stop is None
    assert status.best_checkpoint is not None
    assert status.best_checkpoint.step == 10


def test_checkpoints_that_a_pod_did_not_evaluate_do_not_pass():
    made = World(Script(safety=(GOOD, GOOD)))
    made.apply_all(gate=make_gate().with_safety(**immediate()).obj())
    failure = made.run().failure
    assert failure is not None
    assert failure.reason == Reason.GATE_ERROR
    assert "BaseModel was not measured on the safety set" in failure.message


@pytest.mark.slow
def test_status_with_many_unsafe_checkpoints_is_below_32_kib():
    steps = [*range(1, 40), 50]
    script = Script(
        checkpoints=dict.fromkeys(steps, 90),
        safety=(GOOD, GOOD),
        safety_at_checkpoints={0: GOOD} | dict.fromkeys(steps, "f" * len(CASES)),
    )
    made = World(script)
    gate = make_gate().with_safety(**immediate("Continue"))
    made.apply_all(gate=gate.obj())
    status = made.run()
    assert len(status.checkpoints) == 20
    assert status.failure is not None
    assert status.failure.message.startswith(f"no checkpoint of stage {STAGE} passed its gates")
    assert len(json.dumps(made.job()["status"]).encode()) < LIMIT
