"""Judge the error rate of a gate that a job measured, and describe it for status, messages and reports."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

from tunegate_api.contract.bar import final_bar
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.request import GateRequest
from tunegate_api.contract.results import ErrorRateOutcomes, Results, Subject, golden_set
from tunegate_api.judging.error_rate import ErrorRates, error_rates
from tunegate_api.meta import Sha256, exact
from tunegate_api.v1alpha2 import EvalGate
from tunegate_api.v1alpha2.error_rate_status import (
    MAX_FLAKY_CASES,
    DetectionStatus,
    ErrorRate,
    FalseAlarmStatus,
    RecordedErrorRate,
)
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_api.v1alpha2.sets import GateSet
from tunegate_api.v1alpha2.shares import share
from tunegate_api.verdict.bar import Bar
from tunegate_api.verdict.groups import independent_cases
from tunegate_api.verdict.outcomes import CaseSet, RuleFinding, VerdictState, threshold_text
from tunegate_api.verdict.power import cases_to_find

MIN_DETECTION = "minDetection"
ERROR_RATE = "errorRate"
"""The name of the rule that states the error rate of a gate without `minDetection`. It always passes."""
_COMPUTATION = 3
"""Version of the computation of error rates. Increase it when a change makes earlier rates wrong."""


@dataclass(frozen=True)
class JudgedErrorRate:
    """The error rate of a gate, or why it was not measured, and what follows for the verdict."""

    finding: RuleFinding
    error_rate: ErrorRate | None = None
    """The error rate for status. None if it was not measured."""


def rules_digest(golden: GateSet) -> str:
    """Return the first 12 characters of the digest of the rules that the error rate depends on, and of the
    version of its computation."""
    rules = [rule.to_wire() for rule in golden.rules if rule.limits]
    wire = {"rules": rules, "advisory": golden.advisory, "computation": _COMPUTATION}
    return sha256_text(json.dumps(wire, sort_keys=True))[:12]


def judge_error_rate(gate: GateRequest, results: Results, cases: CaseSet) -> JudgedErrorRate | None:
    """Judge the error rate of a gate that a job measured.

    Returns None if the gate measures no error rate, or if the error rate is known for the base model of the
    job. If `minDetection` is set and the error rate was not measured, the finding is an Error.
    """
    wanted = gate.spec.error_rate
    if wanted is None:
        return None
    bases = {found.digest for found in results.find(Subject.BASE)}
    measured, problem = (results.error_rates or {}).get(gate.name), ""
    if measured is None:
        if bases & set(gate.measured_bases or ()):
            return None
        problem = "no evaluations for it were reported"
    else:
        problem = _of_others(gate, results, measured, bases)
    bar = gate.bar
    if measured is None or problem:
        return _not_measured(gate, problem)
    rates = error_rates(cases, bar, measured)
    if rates.problem:
        return _not_measured(gate, rates.problem)
    shown = _error_rate(gate.spec, measured, rates)
    text = error_rate_text(shown, bar.drop.limit)
    if wanted.min_detection is None:
        return JudgedErrorRate(RuleFinding(ERROR_RATE, VerdictState.PASSED, text), shown)
    minimum = share(wanted.min_detection)
    arithmetic = f"{text}; {detection_text(shown, bar.drop.limit, minimum)}"
    if (found := detection_at(shown, bar.drop.limit)) is None:
        largest = f"the planted regressions are worse by at most {float(rates.largest):.1f} points"
        message = f"{text}; {largest}, so it is not known how often a model that is worse by "
        message += f"{float(bar.drop.limit):g} points is found, required {threshold_text(minimum)}"
        return JudgedErrorRate(RuleFinding(MIN_DETECTION, VerdictState.INCONCLUSIVE, message), shown)
    if exact(found.low) < minimum:
        message = f"{arithmetic}: {advice(bar, independent_cases(len(cases.ids), cases.groups), minimum)}"
        return JudgedErrorRate(RuleFinding(MIN_DETECTION, VerdictState.INCONCLUSIVE, message), shown)
    return JudgedErrorRate(RuleFinding(MIN_DETECTION, VerdictState.PASSED, arithmetic), shown)


def _of_others(
    gate: GateRequest, results: Results, measured: ErrorRateOutcomes, bases: set[Sha256 | None]
) -> str:
    """Return why the evaluations are not those of this job and its gate; empty if they are."""
    if measured.golden_sha256 != gate.golden_sha256 or measured.scoring != gate.spec.scoring:
        return "its evaluations have another golden set or other settings"
    if measured.base_digest not in bases:
        return "its evaluations are of another base model"
    final = next(iter(results.find(Subject.FINAL)), None)
    if final is None or final.outcomes.get(golden_set(gate.name)) != measured.reference:
        return "its evaluations are of another model"
    return ""


def _not_measured(gate: GateRequest, problem: str) -> JudgedErrorRate:
    is_required = gate.spec.error_rate is not None and gate.spec.error_rate.min_detection is not None
    state = VerdictState.ERROR if is_required else VerdictState.PASSED
    rule = MIN_DETECTION if is_required else ERROR_RATE
    return JudgedErrorRate(RuleFinding(rule, state, f"the error rate was not measured: {problem}"))


def _error_rate(spec: EvalGateSpec, measured: ErrorRateOutcomes, rates: ErrorRates) -> ErrorRate:
    return ErrorRate(
        base_digest=measured.base_digest,
        golden_sha256=measured.golden_sha256,
        scoring=measured.scoring,
        rules=rules_digest(spec.golden),
        false_alarm=FalseAlarmStatus(
            share=_share(rates.false_alarm.share), high=_share(max(0.001, rates.false_alarm.high), up=True)
        ),
        detection=[
            DetectionStatus(
                points=_points(one.points),
                share=_share(one.share),
                low=_share(one.low),
                high=_share(one.high, up=True),
            )
            for one in rates.detection
        ],
        flaky=len(rates.flaky),
        flaky_cases=list(rates.flaky[:MAX_FLAKY_CASES]),
        evaluations=measured.evaluations,
        seconds=round(measured.seconds),
    )


def _share(value: float, *, up: bool = False) -> str:
    """Return a share with three digits. A bound is rounded to the safe side."""
    thousandths = ceil(1000 * value - 1e-9) if up else floor(1000 * value + 1e-9)
    return f"{thousandths / 1000:.3f}"


def detection_at(rate: ErrorRate, points: Fraction) -> DetectionStatus | None:
    """Return the detection rate for a drop of ``points`` percentage points; None if it is not stated."""
    return next((one for one in rate.detection if one.points == _points(points)), None)


def _points(points: Fraction) -> str:
    return f"{float(points):g}"


def error_rate_text(rate: ErrorRate, limit: Fraction) -> str:
    """Describe an error rate: "false alarm 1.2 % (at most 2.0 %), finds a 5-point drop in 93 %". ``limit`` is
    the largest allowed drop of the gate. The rate is stated for it, and for 5 points."""
    alarm = rate.false_alarm
    text = f"false alarm {_percent(alarm.share)} % (at most {_percent(alarm.high)} %)"
    sizes = sorted({limit, Fraction(5)})
    found = [one for one in (detection_at(rate, size) for size in sizes) if one]
    if not found:
        return f"{text}, detection unknown"
    drops = [f"a {one.points}-point drop in {floor(100 * exact(one.share))} %" for one in found]
    return f"{text}, finds {' and '.join(drops)}"


def _percent(share: str) -> str:
    return f"{float(100 * exact(share)):.1f}"


def detection_text(rate: ErrorRate, limit: Fraction, minimum: Fraction) -> str:
    """Compare the detection rate at the limit with `minDetection`."""
    found = detection_at(rate, limit)
    low = "unknown" if found is None else f"at least {_percent(found.low)} %"
    return f"detection of a {float(limit):g}-point drop {low}, required {float(100 * minimum):g} %"


def advice(bar: Bar, cases: int, minimum: Fraction) -> str:
    """Return what raises the detection rate of a gate with ``cases`` independent golden cases to
    ``minimum``."""
    if bar.drop.policy == "NonInferior":
        return "have more golden cases, or lower errorRate.minDetection to at most 95%"
    needed = cases_to_find(bar, float(minimum))
    if needed is not None and needed > cases:
        return f"have at least {needed} independent golden cases, or set test: NonInferior for the rule"
    return "set test: NonInferior for the rule, or a lower maxNewFailures"


def current(gate: EvalGate) -> list[RecordedErrorRate]:
    """Return the error rates in the status of a gate that were measured with its golden set, its settings and
    its rules, from newest to oldest."""
    spec, status = gate.spec, gate.status
    return of_settings(status.error_rates, spec, status.digest)


def of_settings(
    rates: Iterable[RecordedErrorRate], spec: EvalGateSpec, digest: Sha256 | None
) -> list[RecordedErrorRate]:
    """Return the error rates with this golden set, and the settings and rules of ``spec``."""
    wanted = (digest, spec.scoring, rules_digest(spec.golden))
    return [one for one in rates if (one.golden_sha256, one.scoring, one.rules) == wanted]


def low_detection(rate: ErrorRate, spec: EvalGateSpec, cases: int | None) -> str:
    """Return why the error rate is below `minDetection`, and what to do; empty if it is not, or if the
    detection rate at the limit is unknown."""
    minimum = spec.error_rate.min_detection if spec.error_rate else None
    bar = final_bar(spec.golden)
    found = detection_at(rate, bar.drop.limit)
    if minimum is None or found is None or exact(found.low) >= share(minimum):
        return ""
    text = detection_text(rate, bar.drop.limit, share(minimum))
    return f"{text}: {advice(bar, cases or 0, share(minimum))}"


def measured_bases(gate: EvalGate) -> list[Sha256] | None:
    """Return the digests of the base models for which the error rate of a gate is known; None if there are
    none. With `minDetection`, the detection rate at the limit must be known, and not be smaller."""
    if gate.spec.error_rate is None:
        return None
    limit, is_required = final_bar(gate.spec.golden).drop.limit, gate.spec.error_rate.min_detection
    known = [
        one
        for one in current(gate)
        if not is_required or (detection_at(one, limit) and not low_detection(one, gate.spec, None))
    ]
    return sorted({one.base_digest for one in known}) or None
