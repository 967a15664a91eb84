"""From outcomes to verdicts: every number in status is computed here, from case outcomes alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from tunegate_api.contract import Evaluation, GateRequest, Request, Results, Subject, golden_set, task_set
from tunegate_api.meta import exact
from tunegate_api.v1alpha1.finetunejob_status import (
    MAX_NAMED_CASES,
    CheckpointStatus,
    FinalStatus,
    GateResult,
    GoldenStatus,
)
from tunegate_api.verdict import (
    PASS,
    Assessment,
    Baseline,
    Candidate,
    CaseSet,
    Finding,
    Measured,
    StopAction,
    assess_checkpoint,
    judge_golden,
    judge_task,
    passed_count,
    points_text,
    rate,
    rate_text,
    select_best,
    worst,
)


def judge_checkpoint(request: Request, results: Results, evaluation: Evaluation) -> CheckpointStatus:
    """How a checkpoint, or a stage's starting model, does on the gates of its stage and on dev."""
    return CheckpointStatus(
        stage=evaluation.stage,
        step=evaluation.step,
        loss=None if evaluation.loss is None else f"{evaluation.loss:.4g}",
        task=_task_rates(request, evaluation, "dev"),
        gates=[_judge_gate(gate, results, evaluation) for gate in request.gates_of(evaluation.stage)],
    )


def judge_final(request: Request, results: Results, artifact_digest: str) -> FinalStatus | None:
    """The verdict on the artifact that would be published; None until it is measured."""
    evaluation = next(iter(results.find(Subject.FINAL)), None)
    if evaluation is None:
        return None
    gates = [_judge_gate(gate, results, evaluation) for gate in request.final_gates]
    findings = _judge_tasks(request, evaluation)
    task_verdict = worst([f.state for f in findings])
    return FinalStatus(
        model_digest=artifact_digest,
        task=_task_rates(request, evaluation, "test"),
        task_verdict=task_verdict,
        task_message="; ".join(f.message for f in findings),
        gates=gates,
        verdict=worst([task_verdict, *(gate.verdict for gate in gates)]),
    )


def best_checkpoint(request: Request, results: Results, stage: str) -> Candidate | None:
    """The passing checkpoint of a stage that goes on."""
    return select_best([_candidate(request, results, e) for e in results.find(Subject.CHECKPOINT, stage)])


@dataclass(frozen=True)
class GateAssessment:
    """What the stop rule of one gate says after a stage's last checkpoint."""

    gate: str
    step: int
    assessment: Assessment


def assess_stage(request: Request, results: Results, stage: str, accepted_step: int) -> GateAssessment | None:
    """The strictest word of the stage's gates on its last checkpoint; None before the first.

    ``accepted_step`` is the step at which a person said to continue; what was before does not count.
    """
    order = list(StopAction)
    assessed = [
        GateAssessment(
            gate.name, history[-1].step, assess_checkpoint(cases, gate.spec.thresholds.rules(), history)
        )
        for gate in request.gates_of(stage)
        if (cases := _cases(gate, results)).ids
        and len(history := _history(results, stage, gate.name, accepted_step)) > 1
    ]
    return max(assessed, key=lambda a: order.index(a.assessment.action), default=None)


def _history(results: Results, stage: str, gate: str, accepted_step: int) -> list[Measured]:
    evaluations = results.find(Subject.START, stage) + results.find(Subject.CHECKPOINT, stage)
    return [
        Measured(e.step, e.outcomes.get(golden_set(gate), "")) for e in evaluations if e.step >= accepted_step
    ]


def _candidate(request: Request, results: Results, evaluation: Evaluation) -> Candidate:
    status = judge_checkpoint(request, results, evaluation)
    dev = [evaluation.outcomes.get(task_set("dev", m.name), "") for m in request.spec.task_metrics]
    return Candidate(
        step=evaluation.step,
        verdict=worst([gate.verdict for gate in status.gates]),
        golden=sum((rate(g.golden.passed, g.golden.total) for g in status.gates if g.golden), Fraction(0)),
        dev=sum((rate(passed_count(outcomes), len(outcomes)) for outcomes in dev), Fraction(0)),
    )


def _judge_gate(gate: GateRequest, results: Results, evaluation: Evaluation) -> GateResult:
    name = golden_set(gate.name)
    cases = _cases(gate, results)
    outcomes = evaluation.outcomes.get(name, "")
    verdict = judge_golden(cases, outcomes, gate.spec.thresholds.rules(), _baselines(gate, results))
    return GateResult(
        name=gate.name,
        golden=GoldenStatus(
            passed=verdict.passed,
            total=verdict.total,
            rate=rate_text(rate(verdict.passed, verdict.total)),
            best_so_far=_best_so_far(results, evaluation, name),
            delta_points={k: points_text(v) for k, v in (verdict.delta_points or {}).items()},
        ),
        verdict=verdict.state,
        message=verdict.message[:1024],
        failed_cases=[c for c, o in zip(cases.ids, outcomes, strict=False) if o != PASS][:MAX_NAMED_CASES],
        skipped=["LastPublished"]
        if "LastPublished" in gate.spec.baselines and not gate.last_published
        else [],
    )


def _cases(gate: GateRequest, results: Results) -> CaseSet:
    """The set that was measured; an empty one, which is an error, where that is not the gate's own."""
    cases = results.sets.get(golden_set(gate.name))
    if cases is None or cases.sha256 != gate.golden_sha256:
        return CaseSet(sha256=gate.golden_sha256, ids=[])
    return cases


def _baselines(gate: GateRequest, results: Results) -> dict[str, Baseline]:
    """The baselines that must be compared with. The base model must exist; an earlier version may not."""
    baselines: dict[str, Baseline] = {}
    if "BaseModel" in gate.spec.baselines:
        measured = results.find(Subject.BASE) or results.find(Subject.START)[:1]
        outcomes = measured[0].outcomes.get(golden_set(gate.name)) if measured else None
        baselines["BaseModel"] = Baseline(gate.golden_sha256, outcomes)
    if "LastPublished" in gate.spec.baselines and gate.last_published:
        last = gate.last_published
        baselines["LastPublished"] = Baseline(last.golden_sha256, last.outcomes)
    return baselines


def _best_so_far(results: Results, evaluation: Evaluation, name: str) -> str | None:
    if evaluation.subject is not Subject.CHECKPOINT:
        return None
    seen = [
        e.outcomes.get(name, "")
        for e in results.find(Subject.START, evaluation.stage)
        + results.find(Subject.CHECKPOINT, evaluation.stage)
        if e.step <= evaluation.step
    ]
    return rate_text(max(rate(passed_count(o), len(o)) for o in seen))


def _task_rates(request: Request, evaluation: Evaluation, split: str) -> dict[str, str]:
    measured = {m.name: evaluation.outcomes.get(f"{split}/{m.name}") for m in request.spec.task_metrics}
    return {name: rate_text(rate(passed_count(o), len(o))) for name, o in measured.items() if o is not None}


def _judge_tasks(request: Request, evaluation: Evaluation) -> Sequence[Finding]:
    return [
        judge_task(m.name, evaluation.outcomes.get(task_set("test", m.name), ""), exact(m.min))
        for m in request.spec.task_metrics
    ]
