"""Judge the outcomes of fixed cases by rules, with messages that show the arithmetic. No I/O.

The operator and the trainer call the same functions on the same outcomes, so the operator computes every
verdict itself. All rates are exact fractions. The rules:

* Only a measured pass counts. A failed or truncated output does not pass. If an outcome is missing or an
  error, the result is *Error*, unless the rule would fail even if all such cases had passed.
* A truncated output may have passed if it was complete; the trainer counts it as failed if no continuation
  could pass. If more than 5 % of a baseline's outputs were truncated, its pass rate may be too low. Then a
  comparison that passes is *Inconclusive* if it would fail with these outputs counted as passed.
* *Failed* means that the model was measured and is not good enough, *Error* that it could not be measured,
  and *Inconclusive* that it was measured, but that the results are not enough to decide. The verdict is the
  worst of all findings.
"""

from collections.abc import Iterator, Mapping
from fractions import Fraction

from tunegate_api.verdict.bar import Bar
from tunegate_api.verdict.comparison import compare
from tunegate_api.verdict.core import Rule, found
from tunegate_api.verdict.measured import Letters, Measured, SetScore
from tunegate_api.verdict.outcomes import (
    Baseline,
    CaseSet,
    RuleFinding,
    Verdict,
    VerdictState,
)
from tunegate_api.verdict.rules.minimum import LOWEST_RATE, Minimum
from tunegate_api.verdict.tiers import counted_cases, judge_tiers


def judge_golden(
    cases: CaseSet,
    outcomes: str,
    bar: Bar,
    baselines: Mapping[str, Baseline],
) -> Verdict:
    """Judge one model or checkpoint by a golden set.

    ``outcomes`` has one letter per case. ``baselines`` maps names to the baselines to compare with. The
    caller omits a baseline that does not exist yet. A baseline that should exist, but could not be measured,
    has None as outcomes. The numbers in the verdict are those of the cases that are not advisory.
    """
    total = len(cases.ids)
    if total == 0 or len(outcomes) > total:
        message = f"{len(outcomes)} outcomes were reported for the {total} cases of the golden set"
        return Verdict((RuleFinding("measured", VerdictState.ERROR, message),))
    tiers = counted_cases(cases, bar)
    of_tiers = judge_tiers(tiers, outcomes, bar)
    if not tiers.positions:
        message = "every golden case is advisory, so no case counts"
        return Verdict((RuleFinding("measured", VerdictState.ERROR, message), *of_tiers))
    cases, outcomes = tiers.counted, tiers.of(outcomes)
    now = Letters(outcomes, len(cases.ids))
    part = Measured(cases, now)
    findings = [*_measured(now), *_alone(part, now, bar)]
    deltas: dict[str, Fraction] = {}
    for name, baseline in baselines.items():
        finding, delta = compare(name, tiers.of_baseline(name, baseline), cases, outcomes, bar)
        findings.append(finding)
        if delta is not None:
            deltas[name] = delta
    return Verdict((*findings, *of_tiers), now.passed, now.total, deltas)


def judge_task(
    name: str, rows: CaseSet, score: SetScore, minimum: Fraction, rule: str = LOWEST_RATE
) -> RuleFinding:
    """Judge a task metric by its ``score`` on the held-out ``rows``. If there are no rows, the result is
    Inconclusive."""
    total = len(rows.ids)
    if score.reported > total:
        message = f"{name}: {score.reported} outcomes were reported for {total} held-out rows"
        return RuleFinding(name, VerdictState.ERROR, message)
    if total == 0:
        return RuleFinding(name, VerdictState.INCONCLUSIVE, f"{name}: no held-out rows to measure on")
    return _finding(Minimum(minimum, rule, label=name), Measured(rows, score))


def _measured(now: Letters) -> list[RuleFinding]:
    if not now.missing:
        return []
    text = f"{now.missing} of {now.total} golden cases could not be measured"
    return [RuleFinding("measured", VerdictState.ERROR, text)]


def _alone(part: Measured, now: Letters, bar: Bar) -> Iterator[RuleFinding]:
    """Yield the findings of the rules that do not compare. A golden set without a minimum has a finding with
    the pass rate, too."""
    rules = [rule for rule in bar.rules if not rule.compares]
    if not any(rule.name == LOWEST_RATE for rule in rules):
        yield RuleFinding(LOWEST_RATE, VerdictState.PASSED, f"golden {now.text}")
    for rule in rules:
        yield _finding(rule, part.of(rule.cases))


def _finding(rule: Rule, part: Measured) -> RuleFinding:
    result = found(rule, part)
    return RuleFinding(rule.name, result.state, result.text + result.reason)
