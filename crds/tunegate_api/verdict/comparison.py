"""Compare the outcomes of a model with those of one baseline, by the rules of the gate. No I/O."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from tunegate_api.meta import summarize
from tunegate_api.verdict.bar import Bar
from tunegate_api.verdict.core import Found, Rule, found, state
from tunegate_api.verdict.measured import Comparator, Letters, Measured
from tunegate_api.verdict.outcomes import (
    FAIL,
    NO_CASES,
    PASS,
    Baseline,
    CaseSet,
    RuleFinding,
    VerdictState,
    passed_count,
    worst,
)


def compare(
    name: str, baseline: Baseline, cases: CaseSet, outcomes: str, bar: Bar
) -> tuple[RuleFinding, Fraction | None]:
    """Compare the outcomes with one baseline, and return one finding of all rules that compare, and the
    difference of the pass rates in percentage points, None if a comparison is not possible."""
    label = f"{name} ({baseline.version})" if baseline.version else name
    problem = _problem(label, baseline, cases)
    if problem or baseline.outcomes is None:
        return RuleFinding(name, VerdictState.ERROR, problem), None
    passed, base_passed, total = passed_count(outcomes), passed_count(baseline.outcomes), len(cases.ids)
    part = _part(label, baseline, cases, outcomes)
    results = [found(rule, part.of(rule.cases)) for rule in _comparing(bar, baseline)]
    overall = worst([each.state for each in results])
    head = f"golden {passed}/{total}, {label} {base_passed}/{total}: "
    arithmetic = "; ".join(_text(each) for each in results if each.text)
    reason = next(each.reason for each in results if each.state is overall)
    if overall is VerdictState.PASSED and passes(baseline, cases, FAIL * total, bar):
        reason = ", so no model could fail this comparison"
    return RuleFinding(name, overall, head + arithmetic + reason), part.delta


def _text(each: Found) -> str:
    return f"{summarize(each.rule.cases, 3)}: {each.text}" if each.rule.cases else each.text


def passes(baseline: Baseline, cases: CaseSet, outcomes: str, bar: Bar) -> bool:
    """Return whether :func:`compare` finds that the model passes, without the message, which takes much
    longer."""
    if _problem("", baseline, cases):
        return False
    part, rules = _part("", baseline, cases, outcomes), _comparing(bar, baseline)
    return bool(rules) and all(state(rule, part.of(rule.cases)) is VerdictState.PASSED for rule in rules)


def can_fail(bar: Bar, total: int, base_passed: Sequence[int]) -> bool:
    """Return whether a model that fails all ``total`` cases fails a rule, if the models that it is compared
    with pass ``base_passed`` of them. A rule that compares some of the cases is assumed to be able to fail if
    one of these models passes any case."""
    part = Measured(NO_CASES, Letters(FAIL * total, total))
    if any(rule.fails(part) for rule in bar.rules if not rule.compares):
        return True
    if any(base_passed) and any(rule.compares and rule.cases for rule in bar.rules):
        return True
    cases = CaseSet(sha256="", ids=[str(case) for case in range(total)])
    overall = replace(bar, rules=tuple(rule for rule in bar.rules if not rule.cases))
    baselines = [Baseline("", PASS * passed + FAIL * (total - passed)) for passed in base_passed]
    return any(not passes(baseline, cases, FAIL * total, overall) for baseline in baselines)


def _comparing(bar: Bar, baseline: Baseline) -> list[Rule]:
    """Return the rules that compare. Those about some of the cases are left out as long as only the number of
    cases that the baseline passes is known, if its outcomes will be known later."""
    is_known_later = baseline.by_case_later and not baseline.by_case
    return [rule for rule in bar.rules if rule.compares and not (rule.cases and is_known_later)]


def _problem(label: str, baseline: Baseline, cases: CaseSet) -> str:
    """Return why a comparison is not possible; empty if it is."""
    if baseline.problem:
        return f"Cannot compare with {label}: {baseline.problem}"
    if baseline.golden_sha256 != cases.sha256:
        return f"{label} was measured on another golden set"
    return f"{label} was not measured" if baseline.outcomes is None else ""


def _part(label: str, baseline: Baseline, cases: CaseSet, outcomes: str) -> Measured:
    total = len(cases.ids)
    before = Comparator(
        label,
        Letters(baseline.outcomes or "", total),
        by_case=baseline.by_case,
        by_case_later=baseline.by_case_later,
    )
    return Measured(cases, Letters(outcomes, total), before)
