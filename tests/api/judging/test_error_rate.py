"""The error rate of a gate, computed from repeated evaluations and planted regressions."""

from fractions import Fraction
from itertools import pairwise
from math import comb
from random import Random

import pytest

from support.bars import golden_bar
from tunegate_api.contract.results import ErrorRateOutcomes, PlantedRegression
from tunegate_api.judging.error_rate import MAX_REPEATS, ErrorRates, error_rates
from tunegate_api.verdict.bar import Bar
from tunegate_api.verdict.comparison import passes
from tunegate_api.verdict.golden import judge_golden
from tunegate_api.verdict.outcomes import Baseline, CaseSet, DropPolicy, VerdictState

SHA = "a" * 64


def case_set(total: int, group: int = 1) -> CaseSet:
    groups = [i // group for i in range(total)] if group > 1 else []
    return CaseSet(sha256=SHA, ids=[f"case-{i}" for i in range(total)], groups=groups)


def measured(
    reference: str, repeats: list[str] | None = None, planted: list[str] | None = None
) -> ErrorRateOutcomes:
    return ErrorRateOutcomes(
        golden_sha256=SHA,
        base_digest="b" * 64,
        scoring="settings",
        reference=reference,
        repeats=[reference] * 4 if repeats is None else repeats,
        planted=[PlantedRegression(name=f"p{i}", outcomes=one) for i, one in enumerate(planted or [])],
    )


def rates(
    reference: str,
    repeats: list[str] | None = None,
    planted: list[str] | None = None,
    rules: Bar | None = None,
    group: int = 1,
) -> ErrorRates:
    outcomes = measured(reference, repeats, planted)
    return error_rates(case_set(len(reference), group), rules or golden_bar(), outcomes)


def share_at(found: ErrorRates, points: Fraction | int) -> float:
    detection = found.at(Fraction(points))
    assert detection is not None
    return detection.share


def test_no_flips_give_no_false_alarm_but_an_upper_bound():
    found = rates("p" * 90 + "f" * 10)
    assert found.false_alarm.share == 0
    assert 0 < found.false_alarm.high < 0.01
    assert found.flaky == ()


def test_false_alarm_upper_bound_uses_clopper_pearson():
    """Of 30 cases without a change, at most 9.5 % change their outcome. A model fails if two of the cases,
    which all pass, regress."""
    flips = (1 - 0.05 ** (1 / 30)) * 0.5 / (1 - 2**-4)
    passing = sum(comb(30, r) * (flips / 2) ** r * (1 - flips / 2) ** (30 - r) for r in range(2))
    assert rates("p" * 30).false_alarm.high == pytest.approx(1 - passing, abs=1e-4)


def test_detection_of_a_thinned_regression_is_binomial():
    """All 20 cases regress in the planted model. Worse by 5 points, each regresses with probability 0.05, and
    a model with one or more regressions is found."""
    found = rates("p" * 20, planted=["f" * 20])
    assert share_at(found, 5) == pytest.approx(1 - 0.95**20)
    assert share_at(found, 15) == pytest.approx(1 - 0.85**20)


def test_larger_drops_are_found_more_often():
    random = Random(1)
    planted = "".join(random.choice("pfff") for _ in range(100))
    found = rates("p" * 90 + "f" * 10, planted=[planted])
    shares = [one.share for one in found.detection]
    assert [float(one.points) for one in found.detection] == [2.5, 5, 7.5, 10, 15]
    assert all(smaller < larger for smaller, larger in pairwise(shares))
    assert all(one.low <= one.share <= one.high for one in found.detection)


def test_more_cases_find_more_and_raise_fewer_false_alarms():
    few, many = (
        rates(
            "p" * 9 * n + "f" * n,
            repeats=["p" * 8 * n + "f" * n + "p" * n],
            planted=["p" * 6 * n + "f" * 4 * n],
            rules=golden_bar(
                policy=DropPolicy.NON_INFERIOR, max_drop_points=Fraction(10), max_new_failures=10 * n
            ),
        )
        for n in (10, 50)
    )
    assert share_at(many, 15) > share_at(few, 15)
    assert many.false_alarm.share < few.false_alarm.share


def test_drops_beyond_the_planted_regressions_are_not_stated():
    found = rates("p" * 100, planted=["f" * 6 + "p" * 94])
    assert [float(one.points) for one in found.detection] == [2.5, 5]
    assert found.largest == 6
    assert found.at(Fraction(10)) is None


def test_detection_of_another_drop_can_be_stated():
    reference, worse = "p" * 100, "f" * 20 + "p" * 80
    found = error_rates(
        case_set(100), golden_bar(), measured(reference, planted=[worse]), also=(Fraction(6),)
    )
    assert share_at(found, 5) < share_at(found, 6) < share_at(found, Fraction(15, 2))
    assert rates(reference, planted=[worse]).at(Fraction(6)) is None


def test_fixes_beside_regressions_widen_the_spread_of_detection():
    """Fixes hide regressions, so that a drop above the limit is missed more often."""
    rules = golden_bar(max_new_failures=100)
    without, churning = (
        rates("p" * 80 + "f" * 20, planted=[planted], rules=rules)
        for planted in ("f" * 12 + "p" * 68 + "f" * 20, "f" * 32 + "p" * 68)
    )
    assert share_at(churning, 10) < share_at(without, 10)


def test_interval_covers_how_planted_regressions_differ():
    alone = rates("p" * 80 + "f" * 20, planted=["f" * 12 + "p" * 68 + "f" * 20])
    both = rates("p" * 80 + "f" * 20, planted=["f" * 12 + "p" * 68 + "f" * 20, "f" * 32 + "p" * 68])
    first, second = alone.at(Fraction(10)), both.at(Fraction(10))
    assert first
    assert second
    assert second.high - second.low > first.high - first.low


@pytest.mark.parametrize("policy", DropPolicy)
def test_interval_covers_chance_changes_that_few_cases_do_not_show(policy: DropPolicy):
    """No case changes in one measurement, and one of 60 cases does in the other."""
    reference, planted = "p" * 54 + "f" * 6, "f" * 9 + "p" * 45 + "f" * 6
    flipped = ["f" + reference[1:], *[reference] * 3]
    drop = Fraction(1, 2)
    without, with_one = (
        error_rates(case_set(60), golden_bar(policy=policy), measured(reference, repeats, [planted]), (drop,))
        for repeats in (None, flipped)
    )
    stated = without.at(drop)
    assert stated
    assert stated.share < share_at(with_one, drop) < stated.high


def test_cases_that_change_in_groups_cause_more_false_alarms():
    reference = "p" * 100
    repeats = ["f" * 5 + "p" * 95, "p" * 95 + "f" * 5]
    rules = golden_bar(max_drop_points=Fraction(10), max_new_failures=100)
    single, grouped = (rates(reference, repeats=repeats, rules=rules, group=group) for group in (1, 5))
    assert grouped.false_alarm.share > single.false_alarm.share


def test_regressed_critical_case_is_found_whatever_the_drop_is():
    outcomes = measured("p" * 100, planted=["f" * 50 + "p" * 50])
    rules = golden_bar(max_drop_points=Fraction(20), max_new_failures=100, must_pass=("case-0",))
    found = error_rates(case_set(100), rules, outcomes)
    assert share_at(found, 10) == pytest.approx(1 - 0.998**100, abs=0.01)


def test_cases_that_flip_are_named():
    found = rates("pppp" * 5, repeats=["pfpp" + "p" * 16, "ppfp" + "p" * 16])
    assert found.flaky == ("case-1", "case-2")
    assert found.false_alarm.share > 0


def test_advisory_cases_do_not_count():
    outcomes = measured("p" * 40, repeats=["f" * 20 + "p" * 20], planted=["p" * 20 + "f" * 20])
    advisory = golden_bar(advisory=tuple(f"case-{i}" for i in range(20)))
    found = error_rates(case_set(40), advisory, outcomes)
    assert found.flaky == ()
    assert found.largest == 100


def test_advisory_case_that_could_not_be_measured_changes_nothing():
    def found(first: str) -> ErrorRates:
        good, worse = first + "p" * 39, first + "f" * 10 + "p" * 29
        return error_rates(case_set(40), golden_bar(advisory=("case-0",)), measured(good, planted=[worse]))

    assert found("p").problem == ""
    assert found("e") == found("p")


@pytest.mark.parametrize("policy", list(DropPolicy))
@pytest.mark.parametrize("limit", [None, 2])
def test_comparison_without_message_agrees_with_the_verdict(policy: DropPolicy, limit: int | None):
    cases, reference = case_set(80), "p" * 70 + "f" * 4 + "t" * 6
    rules = golden_bar(
        policy=policy, max_relative_drop=Fraction(1, 20), max_new_failures=limit, max_drop_points=Fraction(7)
    )
    baseline, states = Baseline(SHA, reference), set()
    for regressed in range(7):
        for improved in range(0, 11, 2):
            now = "f" * regressed + reference[regressed:70] + "p" * improved + reference[70 + improved :]
            state = judge_golden(cases, now, rules, {"reference": baseline}).state
            assert passes(baseline, cases, now, rules) == (state is VerdictState.PASSED)
            states.add(state)
    assert VerdictState.PASSED in states
    assert VerdictState.FAILED in states


def test_same_outcomes_give_the_same_numbers():
    random = Random(5)
    planted = "".join(random.choice("ppf") for _ in range(60))
    first = rates("p" * 60, planted=[planted])
    outcomes = measured("p" * 60, planted=[planted]).model_copy(update={"seconds": 5.0, "evaluations": 9})
    assert error_rates(case_set(60), golden_bar(), outcomes) == first


@pytest.mark.parametrize(
    ("outcomes", "problem"),
    [
        (measured("p" * 19), "19 outcomes of the reference were reported for 20 golden cases"),
        (measured("p" * 20, repeats=["p"]), "1 outcomes of repeat 1 were reported for 20 golden cases"),
        (measured("p" * 20, repeats=[]), "0 repeats and 0 planted regressions were reported"),
        (
            measured("p" * 20, repeats=["p" * 20] * (MAX_REPEATS + 1)),
            "21 repeats and 0 planted regressions were reported",
        ),
        (
            measured("p" * 20, repeats=["e" + "p" * 19]),
            "1 golden cases of repeat 1 could not be measured",
        ),
        (measured("p" * 20, planted=["p"]), "1 outcomes of p0 were reported for 20 golden cases"),
    ],
)
def test_outcomes_that_cannot_be_used_are_named(outcomes: ErrorRateOutcomes, problem: str):
    assert error_rates(case_set(20), golden_bar(), outcomes).problem == problem


def test_model_that_fails_against_itself_has_no_error_rate():
    found = rates("p" * 10 + "f" * 10, rules=golden_bar(min_pass_rate=Fraction(9, 10)))
    assert found.problem.startswith("the model does not pass in comparison with itself: golden 10/20")


def test_planted_regression_with_unmeasured_cases_is_left_out():
    found = rates("p" * 20, planted=["e" * 20, "f" * 5 + "p" * 15])
    assert found.largest == 25
