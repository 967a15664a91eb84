"""Judge the outcomes of fixed cases by thresholds, with messages that show the arithmetic. No I/O.

The operator and the trainer call the same functions on the same outcomes, so the operator computes every
verdict itself. All rates are exact fractions. The rules:

* Only a measured pass counts. A failed or truncated output does not pass. If an outcome is missing or an
  error, the result is *Error*, unless the rule would fail even if all such cases had passed.
* If more than 5 % of a baseline's outputs were truncated, the pass rate of the baseline may be too low. Then
  a comparison that passes is *Inconclusive* if it would fail with these outputs counted as passed.
* *Failed* means that the model was measured and is not good enough, *Error* that it could not be measured,
  and *Inconclusive* that it was measured, but that the results are not enough to decide. The verdict is the
  worst of all findings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Annotated

from pydantic import Field

from tunegate_api.judging.new_failures import Limit, allowed
from tunegate_api.meta import Listed, StatusModel, summarize

PASS, FAIL, TRUNCATED, ERROR = "p", "f", "t", "e"
"""The letters of an outcome string. It has one letter per case, in the order of the cases in the set."""

MAX_TRUNCATED = Fraction(5, 100)
"""If a larger share of a baseline's outputs was truncated, a comparison with the baseline can be
Inconclusive."""

MAX_CASES = 1000
"""Maximum number of cases in a set, so that all outcomes of a job fit in one ConfigMap."""

MAX_LABELS = 200
"""Maximum number of labels of a set whose names are reported."""


class VerdictState(StrEnum):
    """The result of a judgement, from best to worst."""

    PASSED = "Passed"
    """The model was measured and is good enough."""
    INCONCLUSIVE = "Inconclusive"
    """The model was measured, but there are too few cases to decide, or too many outputs of a baseline were
    truncated."""
    ERROR = "Error"
    """The model could not be measured."""
    FAILED = "Failed"
    """The model was measured and is not good enough."""

    @property
    def severity(self) -> int:
        """Position of the state in the order from best to worst. 0 is Passed."""
        return list(VerdictState).index(self)


def worst(states: Sequence[VerdictState]) -> VerdictState:
    """Return the most severe of ``states``. For an empty sequence, return Error, because nothing was
    measured."""
    return max(states, key=lambda s: s.severity, default=VerdictState.ERROR)


class CaseSet(StatusModel):
    """The cases of a set. An outcome string has one letter for each case, in the same order."""

    sha256: str
    """Digest of the set. Two outcome strings can be compared only if the digests of their sets are equal."""
    ids: Annotated[Listed[str], Field(max_length=MAX_CASES)]
    tags: Annotated[Listed[Listed[str]], Field(max_length=MAX_CASES)] = []
    """Tags of each case. Empty if no case has tags."""
    labels: Annotated[Listed[str], Field(max_length=MAX_LABELS)] | None = None
    """The labels that the cases expect, sorted, for F1. Long labels are cut. None for other metrics, and if
    there are more than MAX_LABELS labels."""

    def matching(self, name: str) -> list[int]:
        """Return the positions of the cases whose id or tag is ``name``."""
        tags = self.tags or [[]] * len(self.ids)
        return [i for i, case_id in enumerate(self.ids) if case_id == name or name in tags[i]]


@dataclass(frozen=True)
class Rules:
    """The thresholds of a gate as exact numbers. Rates are from 0 to 1, drops are in percentage points."""

    min_pass_rate: Fraction | None = None
    max_drop_points: Fraction = Fraction(5)
    max_new_failures: Limit = None
    max_drop_between_checkpoints: Fraction = Fraction(5)
    confirm: bool = True
    must_pass: tuple[str, ...] = ()


@dataclass(frozen=True)
class Baseline:
    """Earlier outcomes that a model is compared with. ``outcomes`` is None if the baseline should exist, but
    was not measured."""

    golden_sha256: str
    outcomes: str | None
    by_case: bool = True
    """Whether ``outcomes`` shows which case passed. If False, only the number of passed cases is known."""
    by_case_later: bool = False
    """Whether the outcomes by case will be read before the artifact is judged. Until then, unknown new
    failures do not prevent that a checkpoint passes."""
    version: str = ""
    """Name of the published version, for messages. Empty if the version is not known."""
    problem: str = ""
    """Why a comparison with this baseline is not possible. Empty if a comparison is possible."""


@dataclass(frozen=True)
class RuleFinding:
    """The result of one rule."""

    rule: str
    state: VerdictState
    message: str


@dataclass(frozen=True)
class Verdict:
    """The results of all rules for one model or checkpoint, and the numbers on which these results are
    based."""

    findings: tuple[RuleFinding, ...]
    passed: int = 0
    total: int = 0
    delta_points: Mapping[str, Fraction] | None = None

    @property
    def state(self) -> VerdictState:
        return worst([f.state for f in self.findings])

    @property
    def message(self) -> str:
        """The messages of the findings with the worst state. If all findings passed, the messages of all
        findings."""
        return "; ".join(f.message for f in self.findings if f.state == self.state)


def passed_count(outcomes: str) -> int:
    return outcomes.count(PASS)


def counted_outcomes(passed: int, total: int) -> str:
    """Return an outcome string for ``total`` cases, of which ``passed`` passed. It replaces the outcomes of a
    published version of which only these two numbers are known."""
    return PASS * passed + FAIL * (total - passed)


def rate(passed: int, total: int) -> Fraction:
    """Return the exact pass rate; 0 for an empty set."""
    return Fraction(passed, total) if total else Fraction(0)


def rate_text(value: Fraction) -> str:
    """Format a rate as ``0.94``. Further digits are cut off, because a rounded rate could look equal to a
    threshold that it does not reach."""
    return f"{int(value * 100) / 100:.2f}"


def threshold_text(value: Fraction) -> str:
    """Format a threshold as ``0.94``, or with all digits if it has more than two decimal places."""
    return rate_text(value) if value * 100 % 1 == 0 else str(float(value))


def points_text(value: Fraction) -> str:
    """Format signed percentage points as ``-4.9``. Further digits are cut off, because a rounded drop could
    look equal to a limit that it does not reach."""
    tenths = int(abs(value) * 10)
    sign = "-" if value < 0 else "+"
    return f"{sign}{tenths // 10}.{tenths % 10}"


def judge_golden(
    cases: CaseSet,
    outcomes: str,
    rules: Rules,
    baselines: Mapping[str, Baseline],
) -> Verdict:
    """Judge one model or checkpoint by a golden set.

    ``outcomes`` has one letter per case. ``baselines`` maps names to the baselines to compare with. The
    caller omits a baseline that does not exist yet. A baseline that should exist, but could not be measured,
    has None as outcomes.
    """
    total, passed, errors = len(cases.ids), passed_count(outcomes), unmeasured(cases, outcomes)
    if total == 0 or len(outcomes) > total:
        message = f"{len(outcomes)} outcomes were reported for the {total} cases of the golden set"
        return Verdict((RuleFinding("measured", VerdictState.ERROR, message),))
    findings = [*_measured(errors, total), _min_rate("golden", passed, errors, total, rules.min_pass_rate)]
    findings += [_must_pass(name, cases, outcomes) for name in rules.must_pass]
    deltas: dict[str, Fraction] = {}
    for name, baseline in baselines.items():
        finding, delta = _against(name, baseline, cases, outcomes, rules)
        findings.append(finding)
        if delta is not None:
            deltas[name] = delta
    return Verdict(tuple(findings), passed, total, deltas)


def judge_task(name: str, rows: CaseSet, outcomes: str, minimum: Fraction) -> RuleFinding:
    """Judge a task metric whose value is a pass rate on the held-out ``rows``. If there are no rows, the
    result is Inconclusive.

    :mod:`tunegate_api.judging.counts` judges count-based task metrics.
    """
    total = len(rows.ids)
    if len(outcomes) > total:
        message = f"{name}: {len(outcomes)} outcomes were reported for {total} held-out rows"
        return RuleFinding(name, VerdictState.ERROR, message)
    if total == 0:
        return RuleFinding(name, VerdictState.INCONCLUSIVE, f"{name}: no held-out rows to measure on")
    return _min_rate(name, passed_count(outcomes), unmeasured(rows, outcomes), total, minimum)


def unmeasured(cases: CaseSet, outcomes: str) -> int:
    """Return the number of cases that were not measured: their letter is ``e``, unknown or missing."""
    known = sum(outcomes.count(letter) for letter in (PASS, FAIL, TRUNCATED))
    return max(0, len(cases.ids) - known)


def _measured(errors: int, total: int) -> list[RuleFinding]:
    if not errors:
        return []
    return [
        RuleFinding("measured", VerdictState.ERROR, f"{errors} of {total} golden cases could not be measured")
    ]


def _min_rate(name: str, passed: int, errors: int, total: int, minimum: Fraction | None) -> RuleFinding:
    measured = f"{name} {passed}/{total} = {rate_text(rate(passed, total))}"
    if minimum is None:
        return RuleFinding("minPassRate", VerdictState.PASSED, measured)
    message = f"{measured}, required {threshold_text(minimum)}"
    if rate(passed + errors, total) < minimum:
        return RuleFinding("minPassRate", VerdictState.FAILED, message)
    if errors:
        return RuleFinding("minPassRate", VerdictState.ERROR, f"{message}, {errors} not measured")
    return RuleFinding("minPassRate", VerdictState.PASSED, message)


def _against(
    name: str, baseline: Baseline, cases: CaseSet, outcomes: str, rules: Rules
) -> tuple[RuleFinding, Fraction | None]:
    """Compare the outcomes with one baseline. A drop of ``max_drop_points`` or more fails, and more than
    ``max_new_failures`` cases that the baseline passes and the model fails."""
    total, limit = len(cases.ids), rules.max_drop_points
    passed, errors = passed_count(outcomes), unmeasured(cases, outcomes)
    label = f"{name} ({baseline.version})" if baseline.version else name
    if baseline.problem:
        message = f"Cannot compare with {label}: {baseline.problem}"
        return RuleFinding(name, VerdictState.ERROR, message), None
    if baseline.golden_sha256 != cases.sha256:
        return RuleFinding(name, VerdictState.ERROR, f"{label} was measured on another golden set"), None
    if baseline.outcomes is None:
        return RuleFinding(name, VerdictState.ERROR, f"{label} was not measured"), None
    base_passed, base_errors = passed_count(baseline.outcomes), unmeasured(cases, baseline.outcomes)
    delta = 100 * (rate(passed, total) - rate(base_passed, total))
    message = (
        f"golden {passed}/{total}, {label} {base_passed}/{total}: "
        f"{points_text(delta)} points, limit {points_text(-limit)}"
    )
    most = allowed(rules.max_new_failures, total)
    new = new_failures(cases, baseline.outcomes, outcomes) if baseline.by_case else []
    if new:
        message += f"; new failures {len(new)}, at most {most}: {summarize(new, 5)}"
    if not baseline.by_case:
        message += f"; new failures unknown, because only the number of cases that {label} passes is recorded"
    if 100 * (rate(base_passed, total) - rate(passed + errors, total)) >= limit:
        return RuleFinding(name, VerdictState.FAILED, message), delta
    if len(new) > most:
        return RuleFinding(name, VerdictState.FAILED, message), delta
    if errors or base_errors:
        return RuleFinding(name, VerdictState.ERROR, f"{message}, {errors + base_errors} not measured"), delta
    truncated = baseline.outcomes.count(TRUNCATED)
    possible_drop = 100 * (rate(base_passed + truncated, total) - rate(passed, total))
    possible_new = new_failures(cases, baseline.outcomes, outcomes, PASS + TRUNCATED)
    could_fail = possible_drop >= limit or (baseline.by_case and len(possible_new) > most)
    if rate(truncated, total) > MAX_TRUNCATED and could_fail:
        reason = f"{truncated} outputs of {label} were truncated"
        consequence = "a drop" if possible_drop >= limit else "too many new failures"
        remedy = f"if they had passed, this would be {consequence}: raise generation.maxNewTokens"
        message = f"{message}, but {reason}, and {remedy}"
        return RuleFinding(name, VerdictState.INCONCLUSIVE, message), delta
    if total * limit < 100:
        needed = -int(-100 // limit)
        drop = f"a drop of {float(limit):g} points below {label}"
        message = f"{total} golden cases are too few to detect {drop}: have at least {needed}"
        return RuleFinding(name, VerdictState.INCONCLUSIVE, message), delta
    if not baseline.by_case and not baseline.by_case_later and rules.max_new_failures is not None:
        message = f"{message}: publish another version, which records them, or remove maxNewFailures"
        return RuleFinding(name, VerdictState.INCONCLUSIVE, message), delta
    return RuleFinding(name, VerdictState.PASSED, message), delta


def new_failures(cases: CaseSet, before: str, now: str, passing: str = PASS) -> list[str]:
    """Return the ids of the cases that failed, and whose letter in ``before`` is one of ``passing``."""
    letters = zip(cases.ids, before, now, strict=False)
    return [case for case, was, letter in letters if was in passing and letter in FAIL + TRUNCATED]


def _must_pass(name: str, cases: CaseSet, outcomes: str) -> RuleFinding:
    positions = cases.matching(name)
    if not positions:
        return RuleFinding(
            "mustPass", VerdictState.ERROR, f"mustPass {name}: no golden case has this id or tag"
        )
    letters = [outcomes[i] if i < len(outcomes) else ERROR for i in positions]
    failed = [
        cases.ids[i] for i, letter in zip(positions, letters, strict=True) if letter in (FAIL, TRUNCATED)
    ]
    if failed:
        return RuleFinding("mustPass", VerdictState.FAILED, f"mustPass {name}: {summarize(failed, 5)} failed")
    if any(letter != PASS for letter in letters):
        return RuleFinding("mustPass", VerdictState.ERROR, f"mustPass {name}: cases could not be measured")
    return RuleFinding("mustPass", VerdictState.PASSED, f"mustPass {name}: {len(positions)} passed")
