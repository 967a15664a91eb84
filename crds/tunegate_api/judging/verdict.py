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

from tunegate_api.judging.comparison import compare
from tunegate_api.judging.outcomes import (
    ERROR,
    FAIL,
    PASS,
    TRUNCATED,
    Baseline,
    CaseSet,
    RuleFinding,
    Rules,
    Verdict,
    VerdictState,
    passed_count,
    rate,
    rate_text,
    threshold_text,
    unmeasured,
)
from tunegate_api.judging.tiers import counted_cases, judge_tiers
from tunegate_api.meta import summarize


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
    total, passed, errors = len(cases.ids), passed_count(outcomes), unmeasured(cases, outcomes)
    findings = [*_measured(errors, total), _min_rate("golden", passed, errors, total, rules.min_pass_rate)]
    findings += [_must_pass(name, cases, outcomes) for name in rules.must_pass]
    deltas: dict[str, Fraction] = {}
    for name, baseline in baselines.items():
        finding, delta = compare(name, tiers.of_baseline(name, baseline), cases, outcomes, rules)
        findings.append(finding)
        if delta is not None:
            deltas[name] = delta
    return Verdict((*findings, *of_tiers), passed, total, deltas)


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
