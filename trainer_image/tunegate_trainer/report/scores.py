"""The table that compares the base and the tuned model: one row per golden set and task metric."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from tunegate_api.contract.request import Request
from tunegate_api.contract.results import Subject
from tunegate_api.judging.judgement import GateJudgement, Judgement, TaskJudgement
from tunegate_api.verdict.counts import CountedMetric, label_scores
from tunegate_api.verdict.intervals import wilson
from tunegate_api.verdict.outcomes import RuleFinding, VerdictState, points_text, rate, rate_text, worst
from tunegate_api.verdict.safety import SafetyVerdict
from tunegate_trainer.report.collect import Collected
from tunegate_trainer.report.intervals import Shown, task_intervals
from tunegate_trainer.report.stages import StageHistory


@dataclass(frozen=True)
class ScoreRow:
    """One row of the table: the results of the base model and of the tuned model in one measure."""

    measure: str
    passed: int
    total: int
    base_passed: int | None
    last_published_passed: int | None
    required: str | None
    """The lowest rate that passes. None if there is no minimum."""
    state: VerdictState | None
    """The verdict on this measure. None if the final verdict does not depend on this measure."""

    value: Fraction
    """The pass rate, or the value of a metric that is computed from counts."""
    base_value: Fraction | None
    interval: Shown
    """The confidence interval of ``value``, or why there is none."""
    base_interval: Shown
    is_rate: bool
    """Whether ``value`` is ``passed`` divided by ``total``."""

    @property
    def rate(self) -> str:
        return rate_text(self.value)

    @property
    def base_rate(self) -> str:
        return rate_text(self.base_value or Fraction(0))

    @property
    def change(self) -> str | None:
        """The difference from the base model in percentage points."""
        if self.base_value is None or not self.total:
            return None
        return points_text(100 * (self.value - self.base_value))


@dataclass(frozen=True)
class LabelRow:
    """The F1 scores of one label."""

    label: str
    support: int
    """The number of rows with this label."""
    f1: str
    base_f1: str | None


@dataclass(frozen=True)
class LabelTable:
    """The F1 scores of all labels on one split."""

    title: str
    rows: tuple[LabelRow, ...]


@dataclass(frozen=True)
class Scores:
    """The table, and the name of the tuned model in it."""

    tuned: str
    rows: tuple[ScoreRow, ...]
    labels: tuple[LabelTable, ...]
    """The scores of each label, for each F1 metric in ``rows``."""


def scores(job: Collected, stages: Sequence[StageHistory], judgement: Judgement | None) -> Scores | None:
    """Return the scores of the artifact. Before the final gate, return those of the best checkpoint, or of
    the newest checkpoint if none passes. Returns None if no checkpoint is evaluated yet."""
    evaluated = [stage for stage in stages if len(stage.checkpoints) > 1]
    if judgement is not None:
        final = job.results.find(Subject.FINAL)[0]
        dev = [t for s in evaluated if s.name == final.stage for t in _dev_of(s, final.step)]
        rows = [_of_gate(job.request, gate) for gate in judgement.gates]
        rows += [row for gate in judgement.gates for row in _of_parts(gate)]
        rows += [row for gate in judgement.gates for row in _of_safety(gate)]
        rows += [_of_task(task, counts=True) for task in judgement.tasks]
        rows += [_of_task(task, counts=False) for task in dev]
        return Scores(f"{final.stage}, step {final.step}", tuple(rows), _labels(judgement.tasks))
    if not evaluated:
        return None
    stage = evaluated[-1]
    shown = stage.checkpoint(stage.best_step) or stage.checkpoints[-1]
    rows = [_of_gate(job.request, gate) for gate in shown.gates]
    rows += [row for gate in shown.gates for row in _of_safety(gate)]
    rows += [_of_task(task, counts=False) for task in shown.tasks]
    word = "best so far" if shown.step == stage.best_step else "newest, none passes yet"
    return Scores(f"{stage.name}, step {shown.step} ({word})", tuple(rows), _labels(shown.tasks))


def _labels(tasks: Sequence[TaskJudgement]) -> tuple[LabelTable, ...]:
    """Return the scores of each label for each F1 metric that was measured on all cases. Labels without a
    name are shown by their number."""
    return tuple(
        LabelTable(f"{task.name} of each label, {task.split}", _label_rows(task, task.counted))
        for task in tasks
        if task.counted and task.counted.aggregate.is_of_labels and task.counted.is_complete
    )


def _label_rows(task: TaskJudgement, counted: CountedMetric) -> tuple[LabelRow, ...]:
    base = task.base_counted.measured if task.base_counted else ()
    base_scores = {score.label: rate_text(score.f1) for score in label_scores(base)}
    return tuple(
        LabelRow(
            label=task.labels[score.label] if score.label < len(task.labels) else f"label {score.label}",
            support=score.support,
            f1=rate_text(score.f1),
            base_f1=base_scores.get(score.label),
        )
        for score in label_scores(counted.measured)
    )


def _dev_of(stage: StageHistory, step: int) -> Sequence[TaskJudgement]:
    checkpoint = stage.checkpoint(step)
    return checkpoint.tasks if checkpoint else ()


def _of_gate(request: Request, gate: GateJudgement) -> ScoreRow:
    minimum = request.gate(gate.name).bar.min_pass_rate
    return _rate_row(
        gate,
        f"golden set {gate.name}" + (", cases that are not sealed" if gate.counted.sealed else ""),
        gate.verdict.passed,
        gate.verdict.total,
        gate.baselines.get("BaseModel"),
        last_published_passed=gate.baselines.get("LastPublished"),
        required=None if minimum is None else f"{float(minimum):g}",
        state=worst([f.state for f in _without_safety(gate)]),
    )


def _of_parts(gate: GateJudgement) -> list[ScoreRow]:
    """Return a row for the open cases of a gate, and one for its sealed cases; no rows if none is sealed."""
    parts, name = gate.parts, f"golden set {gate.name}"
    if parts is None:
        return []
    return [
        _rate_row(gate, f"{name}, open cases", parts.open_passed, parts.open_total),
        _rate_row(gate, f"{name}, sealed cases", parts.sealed_passed, parts.sealed_total),
    ]


def _without_safety(gate: GateJudgement) -> list[RuleFinding]:
    """Return the findings of a gate that are not about its safety set."""
    of_safety = gate.safety.verdict.findings if gate.safety else ()
    return [finding for finding in gate.verdict.findings if finding not in of_safety]


def _of_safety(gate: GateJudgement) -> list[ScoreRow]:
    """Return a row for the harmful requests of a gate's safety set, and one for the harmless ones. Returns no
    rows if the gate has no safety set, or if a model was not evaluated on it."""
    found = gate.safety.verdict if gate.safety else SafetyVerdict(())
    axes = (
        ("harmful requests with a safe answer", found.unsafe),
        ("harmless requests answered", found.over_refused),
    )
    return [
        _rate_row(
            gate,
            f"safety set {gate.name}, {name}",
            axis.good,
            axis.total,
            axis.base_good,
            state=finding.state,
        )
        for (name, axis), finding in zip(axes, found.findings, strict=False)
        if axis is not None
    ]


def _rate_row(
    gate: GateJudgement,
    measure: str,
    passed: int,
    total: int,
    base_passed: int | None = None,
    *,
    last_published_passed: int | None = None,
    required: str | None = None,
    state: VerdictState | None = None,
) -> ScoreRow:
    return ScoreRow(
        measure=measure + (" (dry run)" if gate.dry_run else ""),
        passed=passed,
        total=total,
        base_passed=base_passed,
        last_published_passed=last_published_passed,
        required=required,
        state=state,
        value=rate(passed, total),
        base_value=None if base_passed is None else rate(base_passed, total),
        is_rate=True,
        interval=wilson(passed, total) if total else None,
        base_interval=wilson(base_passed, total) if total and base_passed is not None else None,
    )


def _of_task(task: TaskJudgement, *, counts: bool) -> ScoreRow:
    """Return the row of a task metric. If ``counts`` is False, the metric does not count for the verdict, so
    the row has no minimum and no state."""
    interval, base_interval = task_intervals(task)
    return ScoreRow(
        measure=f"{task.name}, {task.split}",
        passed=task.passed,
        total=task.total,
        base_passed=task.base_passed,
        last_published_passed=None,
        required=f"{float(task.minimum):g}" if counts else None,
        state=task.finding.state if counts else None,
        value=task.value,
        base_value=task.base_value,
        is_rate=task.counted is None,
        interval=interval,
        base_interval=base_interval,
    )
