"""Compute the texts in the columns of ``kubectl get`` from the rest of status. Pure."""

from collections.abc import Mapping, Sequence

from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_api.v1alpha2.evaluation_status import GateResult
from tunegate_api.v1alpha2.finetunejob_status import Display
from tunegate_api.v1alpha2.reasons import TO_FIX, Phase, Reason
from tunegate_api.verdict.outcomes import VerdictState

_JUDGED: Mapping[str, str] = {
    Reason.NO_CHECKPOINT_CAN_PASS: "Failed",
    Reason.NO_PASSING_CHECKPOINT: "Failed",
    Reason.DISCARDED: "Failed",
    Reason.GATE_ERROR: "Error",
}
"""The gate column of jobs that failed because of a gate before the final gate ran, by reason."""
_TO_AWAIT = (
    Reason.START_FROM_NOT_READY,
    Reason.QUOTA_EXCEEDED,
    Reason.NAME_TAKEN,
    Reason.POD_NOT_STARTED,
    Reason.POD_UNSCHEDULABLE,
)
"""Reasons for which a job waits, and which usually end without a person."""
NOT_ENFORCED = "no gate is enforced"
"""Text about a job whose gates are all in a dry run."""


def columns(status: FineTuneJobStatus, stages: Sequence[str], reason: str) -> Display:
    """Return the texts of all columns. ``stages`` are the names of the job's stages in order, and ``reason``
    is the reason of the condition Ready.

    The columns base, golden and best compare pass rates on one gate: the first of the last checkpoint,
    preferably one that is not in a dry run.
    """
    progress = status.progress
    measured = status.final or next(reversed(status.checkpoints), None)
    start = status.start[0].gates if status.start else []
    gates = measured.gates if measured else start
    gate = next((gate.name for gate in sorted(gates, key=lambda g: bool(g.dry_run)) if gate.golden), "")
    return Display(
        stage=f"{progress.stage} {stages.index(progress.stage) + 1}/{len(stages)}" if progress else "",
        progress=f"{progress.percent}%" if progress else "",
        base=_rate(start, gate) or None,
        golden=_rate(measured.gates, gate) if measured else "",
        gate=gate_text(status),
        best=_best(status, gate),
        next=next_text(status.phase, reason),
    )


def gate_text(status: FineTuneJobStatus) -> str:
    """Return the text of the gate column. If a job failed before the final gate and no gate caused it, the
    text is NotReached, not Failed."""
    if status.final:
        return Reason.NOT_ENFORCED if is_unenforced(status) else status.final.verdict
    if status.stop:
        return "Failed"
    if status.failure and status.failure.reason in _JUDGED:
        return _JUDGED[status.failure.reason]
    return "NotReached" if status.phase is Phase.FAILED else "Pending"


def is_unenforced(status: FineTuneJobStatus) -> bool:
    """Whether the final model passed, although no gate was enforced."""
    final = status.final
    return final is not None and final.is_unenforced and final.verdict is VerdictState.PASSED


def unenforced_text(status: FineTuneJobStatus) -> str:
    """Return a warning about a final model for which no gate was enforced."""
    names = status.final.dry_runs if status.final else []
    gates = f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} in a dry run"
    return f"{NOT_ENFORCED}, because {gates}: only task metrics are checked"


def next_text(phase: Phase | None, reason: str) -> str | None:
    """Return what a person should do next; None if there is nothing to do. ``reason`` is the reason of the
    condition Ready."""
    if phase is Phase.STOPPED:
        return "decide: continue or discard"
    if phase is Phase.SUSPENDED:
        return "resume: set suspend to false"
    if phase is Phase.AWAITING_REVIEW:
        return "review the data"
    if phase is Phase.AWAITING_APPROVAL:
        return (
            "decide: override or reject"
            if reason == Reason.AWAITING_OVERRIDE
            else "decide: approve or reject"
        )
    if reason in TO_FIX or (phase is Phase.FAILED and reason not in (Reason.DISCARDED, Reason.REJECTED)):
        return f"fix: {reason}"
    return f"wait: {reason}" if reason in _TO_AWAIT else None


def _best(status: FineTuneJobStatus, gate: str) -> str:
    best, progress = status.best_checkpoint, status.progress
    if best is None:
        return ""
    of_earlier_stage = progress is not None and best.stage != progress.stage
    text = f"{best.stage} step {best.step}" if of_earlier_stage else f"step {best.step}"
    evaluation = status.best_evaluation
    rate = _rate(evaluation.gates if evaluation else [], gate)
    return f"{text} ({rate})" if rate else text


def _rate(gates: Sequence[GateResult], name: str) -> str:
    """Return the golden pass rate on the gate ``name``; empty if the gate did not evaluate this model."""
    return next((gate.golden.rate for gate in gates if gate.name == name and gate.golden), "")
