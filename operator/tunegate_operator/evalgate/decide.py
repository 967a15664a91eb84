"""The status of an EvalGate: whether its golden set is the pinned one, and the record of what it judged."""

from datetime import datetime

from tunegate_api.contract import sha256_text
from tunegate_api.golden import GoldenError, parse_golden, unreachable
from tunegate_api.meta import ConditionStatus, with_condition, without_condition
from tunegate_api.v1alpha1 import EvalGateStatus
from tunegate_api.v1alpha1.evalgate_status import MAX_RECORDS, GateReason, Record
from tunegate_api.v1alpha1.problems import Problem
from tunegate_api.verdict import rate, rate_text
from tunegate_operator.evalgate.observe import Missing, Observed, baseline_jobs


def decide(observed: Observed, now: datetime) -> EvalGateStatus:
    """The next status. The same input gives the same answer."""
    gate = observed.gate
    generation, golden = gate.metadata.generation, observed.golden
    status = with_records(gate.status, observed.records)
    if isinstance(golden, Missing):
        return _not_ready(
            status, golden.reason, golden.message, generation=generation, now=now, stalled=False
        )
    digest = sha256_text(golden)
    pinned = gate.spec.golden.sha256
    if pinned is not None and digest != pinned:
        message = f"the golden set has sha256 {digest}, golden.sha256 pins {pinned}: it was changed"
        return _not_ready(status, GateReason.DIGEST_MISMATCH, message, generation=generation, now=now)
    try:
        cases = parse_golden(golden)
    except GoldenError as error:
        return _not_ready(status, GateReason.BAD_GOLDEN, str(error), generation=generation, now=now)
    problems = unreachable(gate.spec.thresholds, cases, gate.spec.baselines)
    if problems:
        message = "; ".join(map(str, problems))
        return _not_ready(status, GateReason.UNREACHABLE_THRESHOLDS, message, generation=generation, now=now)
    status = status.model_copy(update={"cases": len(cases), "digest": digest})
    return _ready(
        status, "True", GateReason.GOLDEN_READ, f"{len(cases)} cases", generation=generation, now=now
    )


def refuse(status: EvalGateStatus, problems: list[Problem], generation: int, now: datetime) -> EvalGateStatus:
    """The status of a gate whose spec contradicts itself."""
    message = "; ".join(str(problem) for problem in problems)
    return _not_ready(status, GateReason.INVALID_SPEC, message, generation=generation, now=now)


def _not_ready(
    status: EvalGateStatus,
    reason: GateReason,
    message: str,
    *,
    generation: int,
    now: datetime,
    stalled: bool = True,
) -> EvalGateStatus:
    """Not to be judged by. What only a person can mend is also Stalled."""
    status = status.model_copy(update={"digest": None, "cases": None})
    status = _ready(status, "False", reason, message, generation=generation, now=now)
    if not stalled:
        return status
    conditions = with_condition(
        status.conditions, "Stalled", "True", reason, message, generation=generation, now=now
    )
    return status.model_copy(update={"conditions": conditions})


def _ready(
    status: EvalGateStatus,
    value: ConditionStatus,
    reason: GateReason,
    message: str,
    *,
    generation: int,
    now: datetime,
) -> EvalGateStatus:
    conditions = with_condition(
        without_condition(status.conditions, "Stalled"),
        "Ready",
        value,
        reason,
        message,
        generation=generation,
        now=now,
    )
    return status.model_copy(update={"conditions": conditions, "observed_generation": generation})


def with_records(status: EvalGateStatus, found: tuple[Record, ...]) -> EvalGateStatus:
    """Add newly judged models to the record, newest first. Jobs may be deleted; their records stay."""
    known = {r.job_uid for r in found}
    records = sorted([*found, *(r for r in status.records if r.job_uid not in known)], key=lambda r: r.time)
    records.reverse()
    kept = _bounded(records)
    if not kept:
        return status
    last = kept[0]
    published = next((r for r in kept if r.published_uris), None)
    return status.model_copy(
        update={
            "records": kept,
            "last": f"{last.job}/step-{last.step}",
            "last_verdict": last.verdict,
            "pass_rate": rate_text(rate(last.passed, last.total)),
            "base_rate": None if last.base_passed is None else rate_text(rate(last.base_passed, last.total)),
            "published_rate": rate_text(rate(published.passed, published.total)) if published else None,
        }
    )


def _bounded(records: list[Record]) -> list[Record]:
    """The newest records, and of each URI the newest published one, which is a baseline."""
    baselines = baseline_jobs(records)
    room = max(0, MAX_RECORDS - len(baselines))
    kept: list[Record] = []
    for record in records:
        if record.job_uid in baselines:
            kept.append(record)
        elif room:
            kept.append(record)
            room -= 1
    return kept[:MAX_RECORDS]
