"""Apply the stop rules of each gate and of each task metric to the checkpoints of a stage. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tunegate_api.contract.bar import bar_of_safety_set
from tunegate_api.contract.request import GateRequest, Request
from tunegate_api.contract.results import Evaluation, Results, Subject, golden_set, task_set
from tunegate_api.judging.gate_safety import measured_safety
from tunegate_api.judging.judgement import best_checkpoint, measured_cases, task_score
from tunegate_api.v1alpha2.evaluation_status import PersonDecision
from tunegate_api.v1alpha2.finetunejob import TaskMetric
from tunegate_api.v1alpha2.shares import share
from tunegate_api.verdict.counts import Aggregate, CountedMetric
from tunegate_api.verdict.outcomes import NO_CASES, CaseSet, new_failures, rate_text
from tunegate_api.verdict.rules.drop import Drop
from tunegate_api.verdict.safety import safety_set
from tunegate_api.verdict.safety_stop_rule import assess_safety
from tunegate_api.verdict.stop_rule import (
    Assessment,
    StepOutcomes,
    StepValue,
    StopAction,
    assess_checkpoint,
    assess_values,
    best_value,
    golden_values,
)
from tunegate_api.verdict.tiers import counted_cases


@dataclass(frozen=True)
class StageAssessment:
    """The decision of the stop rule of a gate or of a task metric after the newest checkpoint of a stage."""

    step: int
    assessment: Assessment
    gate: str | None = None
    """The name of the gate. None for a task metric."""
    metric: str | None = None
    """The name of the task metric. None for a gate."""
    safety: bool = False
    """Whether this is the stop rule of the gate's safety set, not of its golden set."""

    @property
    def source(self) -> str:
        """The name of the gate, or ``taskMetrics``."""
        return self.gate or "taskMetrics"


def assess_stage(
    request: Request, results: Results, stage: str, accepted_step: int
) -> StageAssessment | None:
    """Apply the stop rules of each gate and task metric to the newest checkpoint of a stage, and return the
    strictest result. If several are equally strict, return the first of them; gates come before task metrics,
    and the golden set of a gate before its safety set.

    ``accepted_step`` is the step at which a person last continued the stage after a stop, otherwise 0.
    Evaluations before this step are ignored. Returns None if fewer than two evaluations remain, or if no
    stop rule applies: every gate is in a dry run or has no measured cases, and no task metric has both a
    limit and held-out rows.
    """
    history = _history(results, stage, accepted_step)
    if len(history) < 2:
        return None
    step, assessed = history[-1].step, list[StageAssessment]()
    for gate in _enforced(request, stage):
        cases = measured_cases(gate, results)
        if cases.ids:
            outcomes = _outcomes(golden_set(gate.name), history)
            found = assess_checkpoint(cases, gate.checkpoint_bar, outcomes)
            assessed.append(StageAssessment(step, found, gate=gate.name))
        if safety := _assess_safety(gate, results, history):
            assessed.append(StageAssessment(step, safety, gate=gate.name, safety=True))
    for metric, rule in _limited(request, results):
        found = _assess_metric(metric, rule, results, history)
        assessed.append(StageAssessment(step, found, metric=metric.name))
    order = list(StopAction)
    return max(assessed, key=lambda a: order.index(a.assessment.action), default=None)


def accepted_step(decisions: Sequence[PersonDecision], stage: str) -> int:
    """Return the optimizer step of the last stop after which a person continued the stage; 0 if there is
    none."""
    continued = (d for d in decisions if d.stage == stage and d.action == "continue")
    return max((d.step or 0 for d in continued), default=0)


def referenced_checkpoints(request: Request, results: Results, stage: str, accepted_step: int) -> set[int]:
    """Return the steps of the checkpoints that must be kept: the best checkpoint that passed, and the
    checkpoints with which the stop rules of the gates and task metrics will compare the next one. For
    ``accepted_step``, see :func:`assess_stage`."""
    passing = best_checkpoint(request, results, stage)
    steps = {passing.step} if passing else set()
    history = _history(results, stage, accepted_step)
    if history:
        for gate in _enforced(request, stage):
            counted = counted_cases(measured_cases(gate, results), gate.checkpoint_bar)
            golden = _outcomes(golden_set(gate.name), history)
            outcomes = [StepOutcomes(m.step, counted.of(m.outcomes)) for m in golden]
            steps.add(best_value(golden_values(counted.counted, outcomes)).step)
            if gate.spec.safety and gate.spec.safety.can_stop:
                steps.add(history[0].step)
        for metric, _ in _limited(request, results):
            steps.add(best_value(_metric_values(metric, results, history)).step)
    return steps - {0}


def _history(results: Results, stage: str, accepted_step: int) -> list[Evaluation]:
    evaluations = results.find(Subject.START, stage) + results.find(Subject.CHECKPOINT, stage)
    return [e for e in evaluations if e.step >= accepted_step]


def _enforced(request: Request, stage: str) -> list[GateRequest]:
    return [gate for gate in request.gates_of(stage) if not gate.spec.dry_run]


def _outcomes(name: str, history: Sequence[Evaluation]) -> list[StepOutcomes]:
    """Return the outcomes of the set ``name`` at each step."""
    return [StepOutcomes(e.step, e.outcomes.get(name, "")) for e in history]


def _assess_safety(gate: GateRequest, results: Results, history: Sequence[Evaluation]) -> Assessment | None:
    """Return the assessment of a gate's safety set. Returns None if the set cannot stop training, or has no
    measured cases."""
    safety, cases = gate.spec.safety, measured_safety(gate, results)
    if safety is None or not safety.can_stop or not cases.ids:
        return None
    outcomes = _outcomes(safety_set(gate.name), history)
    return assess_safety(cases, bar_of_safety_set(safety), outcomes, confirm=safety.confirms)


def _limited(request: Request, results: Results) -> list[tuple[TaskMetric, Drop]]:
    """Return the task metrics that can stop training, with their rules between checkpoints."""
    return [
        (metric, Drop(100 * share(metric.checkpoints.fail_at_drop)))
        for metric in request.spec.task_metrics
        if metric.checkpoints and _rows(metric, results).ids
    ]


def _rows(metric: TaskMetric, results: Results) -> CaseSet:
    return results.sets.get(task_set("dev", metric.name), NO_CASES)


def _assess_metric(
    metric: TaskMetric, rule: Drop, results: Results, history: Sequence[Evaluation]
) -> Assessment:
    values, name = _metric_values(metric, results, history), task_set("dev", metric.name)
    confirm = metric.checkpoints is None or metric.checkpoints.on_regression == "Confirm"
    found = assess_values(metric.name, values, rule, confirm=confirm)
    best = next(e for e in history if e.step == found.best_step)
    before, now = best.outcomes.get(name, ""), history[-1].outcomes.get(name, "")
    return replace(found, regressed=tuple(new_failures(_rows(metric, results), before, now)))


def _metric_values(metric: TaskMetric, results: Results, history: Sequence[Evaluation]) -> list[StepValue]:
    """Return the values of a task metric on the dev split. A pass rate and the micro-averaged F1 score are
    shown with the number of rows. If a count-based metric was not measured on all rows, its highest possible
    value is shown."""
    rows, name = _rows(metric, results), task_set("dev", metric.name)
    values = []
    for each in history:
        score = task_score(metric, rows, each, name)
        counted = score if isinstance(score, CountedMetric) else None
        missing = max(0, counted.missing) if counted else 0
        shown = score.highest if missing else score.value
        is_share = counted is None or counted.aggregate is Aggregate.MICRO
        text = f"{int(shown * score.total)}/{score.total}" if is_share else rate_text(shown)
        if missing:
            text = f"at most {text}, {missing} {'row' if missing == 1 else 'rows'} not measured"
        values.append(StepValue(each.step, score, text, at_most=missing > 0))
    return values
