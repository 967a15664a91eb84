"""Compute the pass rates, verdicts and metrics of evaluated models for status, from case outcomes."""

from tunegate_api.contract.request import Request
from tunegate_api.contract.results import Evaluation, Results, Subject, golden_set, task_set
from tunegate_api.judging import judgement
from tunegate_api.judging.approval import verdict_digest
from tunegate_api.judging.judgement import GateJudgement, Judgement
from tunegate_api.meta import cut
from tunegate_api.v1alpha2.error_rate_status import MAX_FLAKY_CASES, JobErrorRate
from tunegate_api.v1alpha2.evaluation_status import (
    MAX_NAMED_CASES,
    CheckpointStatus,
    FinalStatus,
    GateResult,
    GoldenStatus,
    SafetyStatus,
    TaskInterval,
)
from tunegate_api.verdict.outcomes import (
    TRUNCATED,
    VerdictState,
    passed_count,
    points_text,
    rate,
    rate_text,
)
from tunegate_api.verdict.safety import SafetyVerdict


def checkpoint_status(judged: Judgement, results: Results) -> CheckpointStatus:
    """Return the results of a judged checkpoint, or of a stage's starting model, on its gates and on the dev
    rows."""
    evaluation = judged.evaluation
    return CheckpointStatus(
        stage=evaluation.stage,
        step=evaluation.step,
        loss=None if evaluation.loss is None else _loss_text(evaluation.loss),
        task=_task_values(judged),
        gates=[_gate_result(gate, results, evaluation) for gate in judged.gates],
        time=evaluation.time,
    )


def _loss_text(loss: float) -> str:
    """Return a loss as a Decimal, whose exponent has at most two digits."""
    return f"{0.0 if abs(loss) < 1e-99 else loss:.4g}"


def final_status(request: Request, results: Results) -> FinalStatus | None:
    """Return the final verdict on the artifact; None until the artifact is evaluated and its digest is
    known."""
    judged = judgement.judge_final(request, results)
    if judged is None or judged.evaluation.digest is None:
        return None
    return FinalStatus(
        model_digest=judged.evaluation.digest,
        task=_task_values(judged),
        task_intervals=_task_intervals(judged),
        task_verdict=judged.task_state,
        task_message=judged.task_message,
        gates=[_gate_result(gate, results, judged.evaluation) for gate in judged.gates]
        + [_left_out(request, gate.name) for gate in request.spec.gates if gate.name in request.left_out],
        verdict=judged.state,
        verdict_digest=verdict_digest(judged),
    )


def _left_out(request: Request, gate: str) -> GateResult:
    message = f"not judged: {request.left_out[gate]}"
    return GateResult(name=gate, verdict=VerdictState.ERROR, message=cut(message), dry_run=True)


def measured_error_rates(request: Request, results: Results) -> list[JobErrorRate]:
    """Return the error rates of gates that the job measured. The gates share the room for flaky cases."""
    judged = judgement.judge_final(request, results)
    gates = judged.gates if judged else ()
    found = {g.name: g.error_rate.error_rate for g in gates if g.error_rate and g.error_rate.error_rate}
    shown = MAX_FLAKY_CASES // max(1, len(found))
    return [
        JobErrorRate.model_validate(
            {**rate.to_wire(), "gate": name, "flakyCases": rate.flaky_cases[:shown]},
        )
        for name, rate in found.items()
    ]


def lacks_error_rate(request: Request, results: Results) -> bool:
    """Return whether a gate is an Error only because its error rate was not reported, or because an earlier
    attempt reported it for other outcomes. Gates in a dry run are ignored: they block nothing."""
    judged = judgement.judge_final(request, results)
    return any(
        gate.error_rate is not None
        and gate.error_rate.finding.state is VerdictState.ERROR
        and gate.verdict.state is VerdictState.ERROR
        and not gate.dry_run
        for gate in (judged.gates if judged else ())
    )


def _gate_result(judged: GateJudgement, results: Results, evaluation: Evaluation) -> GateResult:
    verdict, parts = judged.verdict, judged.parts
    return GateResult(
        name=judged.name,
        golden=GoldenStatus(
            passed=verdict.passed,
            total=verdict.total,
            rate=rate_text(rate(verdict.passed, verdict.total)),
            sealed_passed=parts.sealed_passed if parts else None,
            sealed_total=parts.sealed_total if parts else None,
            truncated=judged.counted.of(judged.outcomes).count(TRUNCATED) or None,
            best_so_far=_best_so_far(results, evaluation, judged),
            delta_points={k: points_text(v) for k, v in (verdict.delta_points or {}).items()},
        ),
        safety=_safety_status(judged.safety.verdict) if judged.safety else None,
        verdict=verdict.state,
        message=verdict.message,
        dry_run=judged.dry_run or None,
        failed_cases=judged.failed_cases[:MAX_NAMED_CASES],
        skipped=list(judged.skipped),
    )


def _safety_status(verdict: SafetyVerdict) -> SafetyStatus | None:
    """Return the results on the safety set; None if they cannot be compared."""
    unsafe, refused = verdict.unsafe, verdict.over_refused
    if unsafe is None or refused is None:
        return None
    return SafetyStatus(
        unsafe=unsafe.bad,
        unsafe_delta=unsafe.increase,
        unsafe_total=unsafe.total,
        over_refused=refused.bad,
        over_refusal_delta_points=points_text(refused.increase_points),
        harmless_total=refused.total,
        newly_unsafe=list(unsafe.newly_bad[:MAX_NAMED_CASES]) or None,
        newly_refused=list(refused.newly_bad[:MAX_NAMED_CASES]) or None,
    )


def _best_so_far(results: Results, evaluation: Evaluation, judged: GateJudgement) -> str | None:
    if evaluation.subject is not Subject.CHECKPOINT:
        return None
    seen = [
        judged.counted.of(e.outcomes.get(golden_set(judged.name), ""))
        for e in results.find(Subject.START, evaluation.stage)
        + results.find(Subject.CHECKPOINT, evaluation.stage)
        if e.step <= evaluation.step
    ]
    return rate_text(max(rate(passed_count(o), len(o)) for o in seen))


def _task_values(judged: Judgement) -> dict[str, str]:
    """Return the value of each task metric that was evaluated."""
    outcomes = judged.evaluation.outcomes
    return {t.name: rate_text(t.value) for t in judged.tasks if task_set(t.split, t.name) in outcomes}


def _task_intervals(judged: Judgement) -> dict[str, TaskInterval] | None:
    """Return the confidence interval of each task metric that has one."""
    found = {t.name: t.interval for t in judged.tasks}
    bounds = {
        name: TaskInterval(low=f"{each.low:.2f}", high=f"{each.high:.2f}")
        for name, each in found.items()
        if each
    }
    return bounds or None
