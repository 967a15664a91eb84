"""Prepare the table of the checkpoints in a job's status, for pages without the report."""

from collections.abc import Sequence
from dataclasses import dataclass

from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_api.v1alpha2.evaluation_status import CheckpointStatus, GateResult, GoldenStatus, SafetyStatus
from tunegate_api.verdict.outcomes import VerdictState, worst


@dataclass(frozen=True)
class CheckpointRow:
    """A row in the table of checkpoints."""

    stage: str
    name: str
    """``step 37`` or ``starting model``."""
    loss: str
    golden: tuple[GoldenStatus | None, ...]
    """The results of the gates, in the order of :attr:`Checkpoints.gates`."""
    safety: tuple[SafetyStatus | None, ...]
    """The results on safety sets, in the order of :attr:`Checkpoints.with_safety`."""
    tasks: tuple[str, ...]
    verdict: str
    """The worst verdict of the gates; empty for a starting model, which no gate judges."""
    marks: tuple[str, ...]
    why: tuple[tuple[str, str], ...]
    """The arithmetic of each gate that the checkpoint did not pass, with the name of the gate."""


@dataclass(frozen=True)
class Checkpoints:
    """The evaluated models of all stages."""

    gates: tuple[str, ...]
    with_safety: tuple[str, ...]
    """The gates that evaluate checkpoints on a safety set."""
    tasks: tuple[str, ...]
    rows: tuple[CheckpointRow, ...]
    has_stages: bool
    """Whether there are several stages."""


def checkpoints(status: FineTuneJobStatus) -> Checkpoints:
    """Prepare the evaluated models."""
    evaluated = in_order(status)
    gates = list(dict.fromkeys(g.name for c in evaluated for g in c.gates))
    with_safety = list(dict.fromkeys(g.name for c in evaluated for g in c.gates if g.safety))
    tasks = list(dict.fromkeys(name for c in evaluated for name in c.task))
    return Checkpoints(
        gates=tuple(gates),
        with_safety=tuple(with_safety),
        tasks=tuple(tasks),
        rows=tuple(_row(status, c, gates, with_safety, tasks) for c in evaluated),
        has_stages=len({c.stage for c in evaluated}) > 1,
    )


def in_order(status: FineTuneJobStatus) -> list[CheckpointStatus]:
    """Return the starting model of each stage, followed by its checkpoints."""
    found: list[CheckpointStatus] = []
    for stage in dict.fromkeys(c.stage for c in [*status.start, *status.checkpoints]):
        of_stage = [c for c in [*status.start, *status.checkpoints] if c.stage == stage]
        found += sorted(of_stage, key=lambda c: c.step)
    return found


def marks(status: FineTuneJobStatus, checkpoint: CheckpointStatus) -> tuple[str, ...]:
    """Return what is special about a checkpoint."""
    key = (checkpoint.stage, checkpoint.step)
    stop = status.stop
    if stop and stop.stage == checkpoint.stage:
        is_best = checkpoint.step == stop.best_step
    else:
        is_best = checkpoint is status.best_evaluation
    found = {
        "best": is_best,
        "continued": any((d.stage, d.step) == key for d in status.decisions if d.action == "continue"),
        "stopped": stop is not None and (stop.stage, stop.step) == key,
    }
    return tuple(mark for mark, is_marked in found.items() if is_marked)


def _result(checkpoint: CheckpointStatus, gate: str) -> GateResult | None:
    return next((g for g in checkpoint.gates if g.name == gate), None)


def _name(checkpoint: CheckpointStatus) -> str:
    return f"step {checkpoint.step}" if checkpoint.step else "starting model"


def _row(
    status: FineTuneJobStatus,
    checkpoint: CheckpointStatus,
    gates: Sequence[str],
    with_safety: Sequence[str],
    tasks: Sequence[str],
) -> CheckpointRow:
    results = [_result(checkpoint, gate) for gate in gates]
    judged = [r for r in results if r] if checkpoint.step else []
    verdicts = [r.verdict for r in judged if not r.dry_run] or [VerdictState.PASSED]
    return CheckpointRow(
        stage=checkpoint.stage,
        name=_name(checkpoint),
        loss=checkpoint.loss or "",
        golden=tuple(r.golden if r else None for r in results),
        safety=tuple(r.safety if r else None for r in (_result(checkpoint, name) for name in with_safety)),
        tasks=tuple(checkpoint.task.get(task, "") for task in tasks),
        verdict=worst(verdicts) if judged else "",
        marks=marks(status, checkpoint),
        why=tuple(
            (r.name + (" (dry run)" if r.dry_run else ""), r.message)
            for r in judged
            if r.verdict is not VerdictState.PASSED and r.message
        ),
    )
