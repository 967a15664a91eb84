"""Select the checkpoint of a finished stage, or say why none passed and what to change. Pure."""

from collections.abc import Sequence

from tunegate_api.v1alpha2.evaluation_status import GateResult
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.v1alpha2.reasons import Reason
from tunegate_api.verdict.outcomes import VerdictState
from tunegate_operator.finetunejob.checkpoints import best_step, judged_checkpoints
from tunegate_operator.finetunejob.draft import Run

ANOTHER_GATE = "Change what the message names in a new EvalGate, and create the job again."
"""What to do if training cannot change the verdict."""
_NOT_MEASURED = "Checkpoints could not be measured: the report has the reason for each case."


def select_checkpoint(run: Run, stage: str) -> int | None:
    """Return the step of the best passing checkpoint of a finished stage. If no checkpoint passed, fail the
    job and return None. The reason is GateError if the nearest checkpoint did not fail, but could not be
    measured."""
    best = best_step(run.request, run.results, stage)
    if best is not None:
        return best
    judged = judged_checkpoints(run.request, run.results).checkpoints
    tried = [c for c in judged if c.stage == stage]  # at least one
    nearest = max(tried, key=lambda c: _nearness(_enforced(c.gates)))
    lacking = [g for g in _enforced(nearest.gates) if g.verdict is not VerdictState.PASSED]
    verdicts = {g.verdict for g in lacking}
    is_error = VerdictState.ERROR in verdicts and VerdictState.FAILED not in verdicts
    is_measured = all(g.verdict is not VerdictState.ERROR for c in tried for g in _enforced(c.gates))
    run.draft.fail(
        Failure(
            reason=Reason.GATE_ERROR if is_error else Reason.NO_PASSING_CHECKPOINT,
            message=f"no checkpoint of stage {stage} passed its gates; "
            f"the nearest is step {nearest.step}: {'; '.join(g.message for g in lacking)}",
            hint=_hint(lacking) if is_measured else _NOT_MEASURED,
        )
    )
    return None


def _enforced(gates: Sequence[GateResult]) -> list[GateResult]:
    return [gate for gate in gates if not gate.dry_run]


def _nearness(gates: Sequence[GateResult]) -> tuple[int, bool, bool]:
    """Return how near a checkpoint is to passing these gates: by passed cases, then by whether no gate
    failed, and then by whether it could not be measured, because such a checkpoint may be good."""
    passed = sum(gate.golden.passed for gate in gates if gate.golden)
    verdicts = {gate.verdict for gate in gates}
    return passed, VerdictState.FAILED not in verdicts, VerdictState.ERROR in verdicts


def _hint(lacking: Sequence[GateResult]) -> str:
    """Return what to change so that a checkpoint passes the gates that the nearest one did not pass."""
    if truncated := truncation_hint(lacking):
        return truncated
    if all(gate.verdict is VerdictState.INCONCLUSIVE for gate in lacking):
        return ANOTHER_GATE
    return "The report shows which cases still fail: add more or better rows for them."


def truncation_hint(gates: Sequence[GateResult]) -> str:
    """Return a hint that names each enforced gate that the model did not pass mainly because its outputs
    were truncated; empty if there is none."""
    found = [
        f"{golden.truncated} of the {lost} cases of {gate.name} that did not pass"
        for gate in _enforced(gates)
        if (golden := gate.golden) and golden.truncated and gate.verdict is not VerdictState.PASSED
        if 2 * golden.truncated > (lost := golden.total - golden.passed)
    ]
    if not found:
        return ""
    return (
        f"{', '.join(found)} were truncated: raise generation.maxNewTokens in a new EvalGate, and create the "
        "job again."
    )
