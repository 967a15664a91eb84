"""Judge the outcomes of fixed cases by thresholds, with messages that show the arithmetic. No I/O.

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

from collections.abc import Mapping
from fractions import Fraction

from tunegate_api.verdict.comparison import compare
from tunegate_api.verdict.core import Rule, found
from tunegate_api.verdict.measured import Letters, Measured, SetScore
from tunegate_api.verdict.outcomes import (
    Baseline,
    CaseSet,
    RuleFinding,
    Rules,
    Verdict,
    VerdictState,
)
from tunegate_api.verdict.rules.minimum import Minimum
from tunegate_api.verdict.tiers import counted_cases, judge_tiers


def judge_golden(
    cases: CaseSet,
    outcomes: str,
    rules: Rules,
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
    tiers = counted_cases(cases, rules)
    of_tiers = judge_tiers(tiers, outcomes, rules)
    if not tiers.positions:
        message = "every golden case is advisory, so no case counts"
        return Verdict((RuleFinding("measured", VerdictState.ERROR, message), *of_tiers))
    cases, outcomes = tiers.counted, tiers.of(outcomes)
    now = Letters(outcomes, len(cases.ids))
    part = Measured(cases, now)
    findings = [*_measured(now), _pass_rate(rules.min_pass_rate, part, now)]
    findings += [_must_pass(name, part) for name in rules.must_pass]
    deltas: dict[str, Fraction] = {}
    for name, baseline in baselines.items():
        finding, delta = compare(name, tiers.of_baseline(name, baseline), cases, outcomes, rules)
        findings.append(finding)
        if delta is not None:
            deltas[name] = delta
    return Verdict((*findings, *of_tiers), now.passed, now.total, deltas)


def judge_task(
    name: str, rows: CaseSet, score: SetScore, minimum: Fraction, rule: str = "minPassRate"
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


def _pass_rate(minimum: Fraction | None, part: Measured, now: Letters) -> RuleFinding:
    if minimum is None:
        return RuleFinding("minPassRate", VerdictState.PASSED, f"golden {now.text}")
    return _finding(Minimum(minimum), part)


def _finding(rule: Rule, part: Measured) -> RuleFinding:
    result = found(rule, part)
    return RuleFinding(rule.name, result.state, result.text + result.reason)


def _must_pass(name: str, part: Measured) -> RuleFinding:
    rule, cases = Minimum(Fraction(1), "mustPass", f"mustPass {name}", cases=(name,)), part.of(name)
    if not cases.total:
        text = f"mustPass {name}: no golden case has this id or tag"
        return RuleFinding(rule.name, VerdictState.ERROR, text)
    return _finding(rule, cases)
