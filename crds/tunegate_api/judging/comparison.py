"""Compare the outcomes of a model with those of one baseline, by the policy of the gate. No I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Protocol

from tunegate_api.judging.groups import independent_cases
from tunegate_api.judging.new_failures import allowed
from tunegate_api.judging.non_inferior import NonInferior
from tunegate_api.judging.outcomes import (
    FAIL,
    MAX_TRUNCATED,
    PASS,
    TRUNCATED,
    Baseline,
    CaseSet,
    Policy,
    RuleFinding,
    Rules,
    VerdictState,
    new_failures,
    passed_count,
    rate,
    rate_text,
    threshold_text,
    unmeasured,
)
from tunegate_api.judging.paired import Compared, PairedCounts
from tunegate_api.judging.points import Points
from tunegate_api.meta import summarize


class ComparisonPolicy(Protocol):
    """How the drop of the pass rate below a baseline is compared with the limit ``max_drop_points``.

    Neither :meth:`fails` nor :meth:`passes` may get better for a model if one of its cases fails.
    """

    if_truncated: str
    """What a comparison that passes would be if truncated outputs of the baseline had passed."""

    def text(self, compared: Compared, /) -> str:
        """Return the drop and the limit for a message."""

    def fails(self, counts: PairedCounts, limit: Fraction, /) -> bool:
        """Return whether the drop is too large. ``limit`` is in percentage points."""

    def passes(self, counts: PairedCounts, limit: Fraction, /) -> bool:
        """Return whether the drop is small enough."""

    def undecided(self, compared: Compared, message: str, /) -> str:
        """Return the message of a comparison that has too few cases; empty if it has enough. ``message``
        describes the comparison."""


POLICIES: Mapping[Policy, ComparisonPolicy] = {
    Policy.POINTS: Points(),
    Policy.NON_INFERIOR: NonInferior(),
}

_TO_RECORD_CASES = "publish another version, which records them"


def paired_counts(before: str, now: str, total: int, passing: str = PASS) -> PairedCounts:
    """Return the numbers of changed outcomes. The letters of ``before`` in ``passing`` count as passed, and a
    case of the model that was not measured counts as passed too."""
    before, now, failing = before[:total], now[:total], FAIL + TRUNCATED
    pairs = zip(before, now, strict=False)
    regressed = sum(1 for was, is_now in pairs if is_now in failing and was in passing)
    passed = sum(before.count(letter) for letter in passing)
    failed = sum(now.count(letter) for letter in failing)
    return PairedCounts(total, regressed, improved=total - passed - failed + regressed)


def compare(
    name: str, baseline: Baseline, cases: CaseSet, outcomes: str, rules: Rules
) -> tuple[RuleFinding, Fraction | None]:
    """Compare the outcomes with one baseline, and return the finding and the difference of the pass rates in
    percentage points, None if a comparison is not possible.

    The policy of the gate decides about the drop. A model also fails if it loses more than
    ``max_relative_drop`` of the cases that the baseline passes, or if more than ``max_new_failures`` of them
    fail.
    """
    label = f"{name} ({baseline.version})" if baseline.version else name
    problem = _problem(label, baseline, cases)
    if problem or baseline.outcomes is None:
        return RuleFinding(name, VerdictState.ERROR, problem), None
    if baseline.by_case_later and not baseline.by_case:
        rules = replace(rules, policy=Policy.POINTS)
    comparison = _Comparison(label, baseline, baseline.outcomes, cases, outcomes, rules)
    state, message = comparison.judge()
    return RuleFinding(name, state, message), comparison.delta


def passes(baseline: Baseline, cases: CaseSet, outcomes: str, rules: Rules) -> bool:
    """Return whether :func:`compare` finds that the model passes, without the message, which takes much
    longer."""
    if _problem("", baseline, cases) or baseline.outcomes is None:
        return False
    state, _ = _Comparison("", baseline, baseline.outcomes, cases, outcomes, rules).decide()
    return state is VerdictState.PASSED


def _problem(label: str, baseline: Baseline, cases: CaseSet) -> str:
    """Return why a comparison is not possible; empty if it is."""
    if baseline.problem:
        return f"Cannot compare with {label}: {baseline.problem}"
    if baseline.golden_sha256 != cases.sha256:
        return f"{label} was measured on another golden set"
    return f"{label} was not measured" if baseline.outcomes is None else ""


@dataclass(frozen=True)
class _Comparison:
    label: str
    baseline: Baseline
    before: str
    """The outcomes of the baseline."""
    cases: CaseSet
    outcomes: str
    rules: Rules

    @cached_property
    def delta(self) -> Fraction:
        total = len(self.cases.ids)
        return 100 * rate(passed_count(self.outcomes) - passed_count(self.before), total)

    def judge(self) -> tuple[VerdictState, str]:
        """Return the result of the comparison, and its message."""
        total, rules, compared = len(self.cases.ids), self.rules, self._compared
        passed, base_passed, label = passed_count(self.outcomes), passed_count(self.before), self.label
        message = (
            f"golden {passed}/{total}, {label} {base_passed}/{total}: {POLICIES[rules.policy].text(compared)}"
        )
        most, new = self._allowed, self._new_failures
        if new:
            message += f"; new failures {len(new)}, at most {most}: {summarize(new, 5)}"
        if not self.baseline.by_case:
            message += (
                f"; new failures unknown, because only the number of cases that {label} passes is recorded"
            )
        if rules.max_relative_drop is not None and base_passed:
            lost, allowed_share = max(0, base_passed - passed), threshold_text(rules.max_relative_drop)
            message += (
                f"; lost {lost}/{base_passed} = {rate_text(rate(lost, base_passed))}, at most {allowed_share}"
            )
        state, completed = self.decide()
        return state, completed(message)

    @cached_property
    def _compared(self) -> Compared:
        is_complete = self._is_paired and not self._not_measured
        return Compared(self.label, self.delta, self._counts(), is_complete, self.rules.max_drop_points)

    @cached_property
    def _is_paired(self) -> bool:
        return self.baseline.by_case or self.rules.policy is Policy.POINTS

    @cached_property
    def _not_measured(self) -> int:
        return unmeasured(self.cases, self.outcomes) + unmeasured(self.cases, self.before)

    def decide(self) -> tuple[VerdictState, Callable[[str], str]]:
        """Return the result of the comparison, and a function that adds the reason to its message. The
        message is not needed for the result, and takes much longer with bounds."""
        rules, policy = self.rules, POLICIES[self.rules.policy]
        compared, by_case, missing = self._compared, self.baseline.by_case, self._not_measured
        counts, limit = compared.counts, compared.limit
        loses_too_much = self._loses_too_much(counts, passed_count(self.before))
        too_many = len(self._new_failures) > self._allowed
        if loses_too_much or too_many or (self._is_paired and policy.fails(counts, limit)):
            return VerdictState.FAILED, lambda message: message
        if missing:
            return VerdictState.ERROR, lambda message: f"{message}, {missing} not measured"
        if not self._is_paired:
            return (
                VerdictState.INCONCLUSIVE,
                lambda message: f"{message}: {_TO_RECORD_CASES}, or set policy: Points",
            )
        if policy.passes(counts, limit) and (reason := self._hidden_by_truncation(policy)):
            return (
                VerdictState.INCONCLUSIVE,
                lambda message: f"{message}, but {reason}: raise generation.maxNewTokens",
            )
        if policy.undecided(compared, ""):
            return VerdictState.INCONCLUSIVE, lambda message: policy.undecided(compared, message)
        if not by_case and not self.baseline.by_case_later and rules.max_new_failures is not None:
            return (
                VerdictState.INCONCLUSIVE,
                lambda message: f"{message}: {_TO_RECORD_CASES}, or remove maxNewFailures",
            )
        return VerdictState.PASSED, lambda message: message

    def _counts(self, passing: str = PASS) -> PairedCounts:
        total = len(self.cases.ids)
        independent = independent_cases(total, self.cases.groups)
        counts = paired_counts(self.before, self.outcomes, total, passing)
        return replace(counts, independent=independent) if independent < total else counts

    @cached_property
    def _allowed(self) -> int:
        """How many new failures are allowed."""
        return allowed(self.rules.max_new_failures, len(self.cases.ids), self.cases.groups)

    @cached_property
    def _new_failures(self) -> list[str]:
        return self._failures_of(PASS)

    def _failures_of(self, passing: str) -> list[str]:
        """Return the new failures if the letters of the baseline in ``passing`` count as passed."""
        if not self.baseline.by_case:
            return []
        return new_failures(self.cases, self.before, self.outcomes, passing)

    def _loses_too_much(self, counts: PairedCounts, base_passed: int) -> bool:
        share = self.rules.max_relative_drop
        return share is not None and counts.regressed - counts.improved > share * base_passed

    def _hidden_by_truncation(self, policy: ComparisonPolicy) -> str:
        """Return how truncated outputs of the baseline could change a comparison that passes; empty if they
        could not."""
        total, passing = len(self.cases.ids), PASS + TRUNCATED
        truncated = self.before.count(TRUNCATED)
        if rate(truncated, total) <= MAX_TRUNCATED:
            return ""
        counts = self._counts(passing)
        consequence = "" if policy.passes(counts, self.rules.max_drop_points) else policy.if_truncated
        if not consequence and self._loses_too_much(counts, passed_count(self.before) + truncated):
            consequence = "too large a relative drop"
        if not consequence and len(self._failures_of(passing)) > self._allowed:
            consequence = "too many new failures"
        reason = f"{truncated} outputs of {self.label} were truncated"
        return consequence and f"{reason}, and if they had passed, this would be {consequence}"
