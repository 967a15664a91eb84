"""Judge a job's outcomes: find the cases and baselines of each gate, and compute the verdict.

The operator's status, the trainer's stop rule, the result of the final gate, the evidence and the report all
use these functions. The arithmetic is in :mod:`tunegate_api.verdict.golden`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from tunegate_api.contract.request import GateRequest, Request
from tunegate_api.contract.results import Evaluation, HeldOutSplit, Results, Subject, golden_set, task_set
from tunegate_api.judging.compared import ComparedResults, base_evaluation, baselines_of
from tunegate_api.judging.gate_error_rate import JudgedErrorRate, judge_error_rate
from tunegate_api.judging.gate_safety import GateSafety, judge_gate_safety
from tunegate_api.v1alpha2.finetunejob import MetricType, TaskMetric
from tunegate_api.v1alpha2.shares import share
from tunegate_api.verdict.best import Candidate, select_best
from tunegate_api.verdict.counts import CountedMetric, aggregate_of, counted_metric, share_interval
from tunegate_api.verdict.golden import judge_golden, judge_task
from tunegate_api.verdict.intervals import Interval
from tunegate_api.verdict.measured import Letters, SetScore
from tunegate_api.verdict.outcomes import (
    NO_CASES,
    PASS,
    CaseSet,
    RuleFinding,
    Verdict,
    VerdictState,
    passed_count,
    rate,
    worst,
)
from tunegate_api.verdict.safety import safety_set
from tunegate_api.verdict.sealed import Parts, measured_parts
from tunegate_api.verdict.tiers import CountedCases, counted_cases


@dataclass(frozen=True)
class GateJudgement:
    """The judgement of one gate for one model or checkpoint."""

    name: str
    cases: CaseSet
    """The golden set of the gate. If another set was evaluated, this is an empty set, for which the verdict
    is Error."""
    outcomes: str
    """The outcome of each case, one letter per case. Sealed cases have outcomes only for the final model."""
    verdict: Verdict
    baseline_outcomes: dict[str, str]
    """Maps the name of each baseline that was measured to its outcomes of the golden cases."""
    skipped: tuple[str, ...]
    """Baselines that were skipped: those that do not exist yet, and for a checkpoint, those that only the
    final gate measures."""
    dry_run: bool
    """Whether the gate is in a dry run, which means that its verdict is recorded, but not enforced."""
    counted: CountedCases
    """The cases that count: not the advisory ones, and for a checkpoint, not the sealed ones."""
    parts: Parts | None = None
    """The results on the open and on the sealed cases. None for a checkpoint, and if no case is sealed."""
    safety: GateSafety | None = None
    """The results on the safety set, whose findings are part of ``verdict``. None if the gate has no safety
    set, and for a checkpoint that is not evaluated on it."""
    error_rate: JudgedErrorRate | None = None
    """The error rate of the gate, whose finding is part of ``verdict``. None for a checkpoint, and if the job
    does not measure it."""

    @property
    def baselines(self) -> dict[str, int]:
        """Maps the name of each baseline that was measured to the number of golden cases that it passed."""
        return {name: passed_count(outcomes) for name, outcomes in self.baseline_outcomes.items()}

    @property
    def failed_cases(self) -> list[str]:
        """Ids of the evaluated cases that count and did not pass."""
        count = self.counted
        return [c for c, o in zip(count.counted.ids, count.of(self.outcomes), strict=False) if o != PASS]


@dataclass(frozen=True)
class TaskJudgement:
    """The judgement of one task metric on one held-out split."""

    name: str
    type: MetricType
    split: HeldOutSplit
    minimum: Fraction
    passed: int
    total: int
    base_passed: int | None
    """Number of rows that the base model passed. None if the base model was not evaluated."""
    value: Fraction
    """The number that is compared with ``minimum``: the pass rate, or the value of a count-based metric."""
    base_value: Fraction | None
    """The same number for the base model. None if the base model was not evaluated."""
    finding: RuleFinding
    counted: CountedMetric | None = None
    """The measured entries of a count-based metric. None for a pass rate."""
    base_counted: CountedMetric | None = None
    """The same entries for the base model."""
    labels: Sequence[str] = ()
    """The labels that the entries of F1 name by their indices."""
    interval: Interval | None = None
    """The confidence interval of ``value``, if it is a share of cases. None for other values, for an empty
    set, and if a case was not measured."""
    base_interval: Interval | None = None
    """The same interval for the base model."""


@dataclass(frozen=True)
class Judgement:
    """The judgement of all gates and task metrics for one model or checkpoint."""

    evaluation: Evaluation
    gates: tuple[GateJudgement, ...]
    tasks: tuple[TaskJudgement, ...]

    @property
    def enforced(self) -> list[GateJudgement]:
        """The gates that are not in a dry run."""
        return [gate for gate in self.gates if not gate.dry_run]

    @property
    def gate_state(self) -> VerdictState:
        """The worst verdict of the enforced gates. Passed if all gates are in a dry run."""
        return worst([gate.verdict.state for gate in self.enforced] or [VerdictState.PASSED])

    @property
    def task_state(self) -> VerdictState:
        """The worst result of the task metrics."""
        return worst([task.finding.state for task in self.tasks])

    @property
    def task_message(self) -> str:
        return "; ".join(task.finding.message for task in self.tasks)

    @property
    def findings(self) -> list[tuple[str, RuleFinding]]:
        """The findings of the enforced gates and of the task metrics, each with the name of its gate or
        ``taskMetrics``."""
        of_gates = [(g.name, f) for g in self.enforced for f in g.verdict.findings]
        return of_gates + [("taskMetrics", task.finding) for task in self.tasks]

    @property
    def state(self) -> VerdictState:
        """The worst state of all :attr:`findings`."""
        return worst([finding.state for _, finding in self.findings])

    @property
    def message(self) -> str:
        """The messages of the findings with the worst state. If all findings passed, the messages of all
        findings."""
        return "; ".join(f"{name}: {f.message}" for name, f in self.findings if f.state is self.state)


def judge_final(request: Request, results: Results) -> Judgement | None:
    """Return the judgement of the artifact to publish. Returns None if ``results`` have no evaluation of the
    artifact."""
    final = next(iter(results.find(Subject.FINAL)), None)
    return None if final is None else judge_artifact(request, results, final)


def judge_artifact(request: Request, results: Results, evaluation: Evaluation) -> Judgement:
    """Judge an artifact by the gates of the job, and by the task metrics on the test split."""
    return _judge(request.final_gates, request, results, evaluation, "test")


def judge_checkpoint(request: Request, results: Results, evaluation: Evaluation) -> Judgement:
    """Judge a checkpoint or a starting model by the gates of its stage, and by the task metrics on the dev
    split."""
    return _judge(request.gates_of(evaluation.stage), request, results, evaluation, "dev")


def judge_checkpoints(request: Request, results: Results, stage: str) -> list[Judgement]:
    """Judge all checkpoints of the stage ``stage``, in the order of their steps."""
    return [judge_checkpoint(request, results, e) for e in results.find(Subject.CHECKPOINT, stage)]


def best_checkpoint(request: Request, results: Results, stage: str) -> Candidate | None:
    """Return the best checkpoint of the stage ``stage`` that passed its gates. Gates in a dry run are
    ignored. If all are, the task metrics select it. Returns None if no checkpoint passed."""
    return best_judged(judge_checkpoints(request, results, stage))


def best_judged(judged: Sequence[Judgement]) -> Candidate | None:
    """Return what :func:`best_checkpoint` returns, from the judgements of all checkpoints of a stage."""
    return select_best(
        [
            Candidate(
                step=j.evaluation.step,
                verdict=j.gate_state,
                golden=sum((rate(g.verdict.passed, g.verdict.total) for g in j.enforced), Fraction(0)),
                dev=sum((t.value for t in j.tasks), Fraction(0)),
            )
            for j in judged
        ]
    )


def measured_cases(gate: GateRequest, results: Results) -> CaseSet:
    """Return the golden cases that were evaluated for ``gate``. If they are not the golden set of the gate,
    return an empty set, which cannot pass."""
    cases = results.sets.get(golden_set(gate.name))
    if cases is None or cases.sha256 != gate.golden_sha256:
        return CaseSet(sha256=gate.golden_sha256, ids=[])
    return cases


def _judge(
    gates: Sequence[GateRequest],
    request: Request,
    results: Results,
    evaluation: Evaluation,
    split: HeldOutSplit,
) -> Judgement:
    return Judgement(
        evaluation,
        gates=tuple(_judge_gate(gate, request, results, evaluation) for gate in gates),
        tasks=tuple(_judge_tasks(request, results, evaluation, split)),
    )


def _judge_gate(
    gate: GateRequest, request: Request, results: Results, evaluation: Evaluation
) -> GateJudgement:
    """Judge an evaluation by one gate, and compare it with each baseline of the gate. Only the artifact is
    judged by the sealed cases."""
    is_final = evaluation.subject is Subject.FINAL
    bar = gate.bar if is_final else gate.checkpoint_bar
    cases, outcomes = measured_cases(gate, results), evaluation.outcomes.get(golden_set(gate.name), "")
    baselines, skipped = baselines_of(ComparedResults(gate, request, results, evaluation.subject))
    counted, parts = counted_cases(cases, bar), None
    known = {k: counted.of_baseline(k, b).outcomes for k, b in baselines.items()}
    verdict, safety = judge_golden(cases, outcomes, bar, baselines), None
    if is_final:
        parts = measured_parts(outcomes, counted.positions, counted_cases(cases, gate.checkpoint_bar).sealed)
    if is_final or gate.safety_at_checkpoints:
        base = base_evaluation(request, results, safety_set(gate.name), evaluation.subject)
        safety = judge_gate_safety(gate, results, evaluation, base)
    error_rate = judge_error_rate(gate, results, cases) if is_final else None
    if parts:
        finding = RuleFinding("sealed", VerdictState.PASSED, parts.text)
        verdict = replace(verdict, findings=(*verdict.findings, finding))
    if safety:
        verdict = replace(verdict, findings=(*verdict.findings, *safety.verdict.findings))
    if error_rate:
        verdict = replace(verdict, findings=(*verdict.findings, error_rate.finding))
    return GateJudgement(
        name=gate.name,
        cases=cases,
        outcomes=outcomes,
        verdict=verdict,
        baseline_outcomes={k: letters for k, letters in known.items() if letters is not None},
        skipped=tuple(skipped),
        dry_run=gate.spec.dry_run,
        counted=counted,
        parts=parts,
        safety=safety,
        error_rate=error_rate,
    )


def _judge_tasks(
    request: Request, results: Results, evaluation: Evaluation, split: HeldOutSplit
) -> Sequence[TaskJudgement]:
    return [_judge_task(metric, request, results, evaluation, split) for metric in request.spec.task_metrics]


def _judge_task(
    metric: TaskMetric, request: Request, results: Results, evaluation: Evaluation, split: HeldOutSplit
) -> TaskJudgement:
    name, minimum = task_set(split, metric.name), share(metric.min)
    rows = results.sets.get(name, NO_CASES)
    outcomes = evaluation.outcomes.get(name, "")
    base = base_evaluation(request, results, name, evaluation.subject)
    score = task_score(metric, rows, evaluation, name)
    base_score = task_score(metric, rows, base, name) if base else None
    counted, base_counted = (
        each if isinstance(each, CountedMetric) else None for each in (score, base_score)
    )
    rule = metric.name if counted else "minPassRate"
    return TaskJudgement(
        name=metric.name,
        type=metric.type,
        split=split,
        minimum=minimum,
        passed=passed_count(outcomes),
        total=len(rows.ids),
        base_passed=passed_count(base.outcomes[name]) if base else None,
        value=score.value,
        base_value=base_score.value if base_score else None,
        finding=judge_task(metric.name, rows, score, minimum, rule),
        counted=counted,
        base_counted=base_counted,
        labels=rows.labels or (),
        interval=share_interval(rows, outcomes, counted),
        base_interval=share_interval(rows, base.outcomes[name], base_counted) if base else None,
    )


def task_score(metric: TaskMetric, rows: CaseSet, evaluation: Evaluation, name: str) -> SetScore:
    """Return the score of a task metric. ``name`` is the name of the set ``rows`` in the evaluation."""
    outcomes = evaluation.outcomes.get(name, "")
    aggregate = aggregate_of(metric.type, metric.average)
    if aggregate is None:
        return Letters(outcomes, len(rows.ids))
    return counted_metric(rows, outcomes, (evaluation.counts or {}).get(name, ""), aggregate)
