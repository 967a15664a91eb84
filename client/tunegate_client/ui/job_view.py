"""Prepare the page of a job."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from tunegate_api.meta import exact
from tunegate_api.v1alpha1 import FineTuneJobStatus
from tunegate_api.v1alpha1.evaluation_status import CheckpointStatus, GateResult, GoldenStatus, SafetyStatus
from tunegate_api.verdict.bar import Bar
from tunegate_api.verdict.outcomes import VerdictState, worst
from tunegate_client.ui.charts import BEST, CONTINUED, STOPPED, Chart, Measured, rate_chart


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
    """The evaluated models of all stages: a chart for each stage and gate, and a table."""

    charts: tuple[Chart, ...]
    gates: tuple[str, ...]
    with_safety: tuple[str, ...]
    """The gates that evaluate checkpoints on a safety set."""
    tasks: tuple[str, ...]
    rows: tuple[CheckpointRow, ...]
    has_stages: bool
    """Whether there are several stages."""


def checkpoints(status: FineTuneJobStatus, bars: Mapping[str, Bar]) -> Checkpoints:
    """Prepare the evaluated models. ``bars`` has the rules of each gate, if they are known."""
    evaluated = in_order(status)
    stages = list(dict.fromkeys(c.stage for c in evaluated))
    gates = list(dict.fromkeys(g.name for c in evaluated for g in c.gates))
    with_safety = list(dict.fromkeys(g.name for c in evaluated for g in c.gates if g.safety))
    tasks = list(dict.fromkeys(name for c in evaluated for name in c.task))
    charts: list[Chart] = []
    for stage in stages:
        of_stage = [c for c in evaluated if c.stage == stage]
        for gate in gates:
            title = f"Golden rate of {gate}" + (f", stage {stage}" if len(stages) > 1 else "")
            found = bars.get(gate)
            chart = rate_chart(
                f"rate-{len(charts)}",
                title,
                _measured(status, of_stage, gate),
                axis="optimizer step",
                end=_steps(status, stage),
                required=found.min_pass_rate if found else None,
                drop_points=found.between_checkpoints.limit if found else None,
            )
            charts += [chart] if chart else []
    return Checkpoints(
        charts=tuple(charts),
        gates=tuple(gates),
        with_safety=tuple(with_safety),
        tasks=tuple(tasks),
        rows=tuple(_row(status, c, gates, with_safety, tasks) for c in evaluated),
        has_stages=len(stages) > 1,
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
    best = stop.kept if stop and stop.stage == checkpoint.stage else status.best_checkpoint
    found = {
        BEST: best is not None and (best.stage, best.step) == key,
        CONTINUED: any((d.stage, d.step) == key for d in status.decisions if d.action == "continue"),
        STOPPED: stop is not None and (stop.stage, stop.step) == key,
    }
    return tuple(mark for mark, is_marked in found.items() if is_marked)


def _measured(status: FineTuneJobStatus, of_stage: Sequence[CheckpointStatus], gate: str) -> list[Measured]:
    found = []
    for checkpoint in of_stage:
        result = _result(checkpoint, gate)
        if result is None or result.golden is None or not result.golden.total:
            continue
        golden = result.golden
        found.append(
            Measured(
                position=checkpoint.step,
                tick=str(checkpoint.step),
                name=_name(checkpoint),
                passed=golden.passed,
                total=golden.total,
                verdict=result.verdict if checkpoint.step else "",
                marks=marks(status, checkpoint),
                best_so_far=_best_so_far(golden),
            )
        )
    return found


def _steps(status: FineTuneJobStatus, stage: str) -> int:
    """Return the number of optimizer steps of a stage; 0 if it is not known yet."""
    return next((s.steps for s in status.plan.stages if s.stage == stage), 0) if status.plan else 0


def _best_so_far(golden: GoldenStatus) -> Fraction | None:
    return exact(golden.best_so_far) if golden.best_so_far is not None else None


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
