"""How often a drop is missed, compared with scipy and with simulated comparisons."""

from fractions import Fraction
from math import ceil
from random import Random

import pytest

from support.bars import golden_bar
from tunegate_api.verdict.allowed_failures import allowed
from tunegate_api.verdict.golden import judge_golden
from tunegate_api.verdict.outcomes import (
    MAX_CASES,
    Baseline,
    CaseSet,
    DropPolicy,
    VerdictState,
)
from tunegate_api.verdict.power import (
    MISSED,
    cases_to_find,
    detectable_drop,
    missed_share,
    passing_share,
    power_text,
)

FIVE = Fraction(5)


@pytest.mark.parametrize(
    ("total", "most", "drop"),
    [(20, 0, 5), (50, 2, 5), (100, 4, 9), (500, 24, 6), (1000, 999, 99.9), (100, 100, 100), (100, 9, 100)],
)
def test_missed_share_is_the_binomial_distribution(total, most, drop):
    from scipy.stats import binom

    assert missed_share(total, most, drop) == pytest.approx(binom.cdf(most, total, drop / 100), abs=1e-9)


@pytest.mark.parametrize(("total", "most"), [(20, 0), (48, 2), (100, 4), (200, 9), (1000, 49)])
def test_detectable_drop_is_the_smallest_tenth_that_is_rarely_missed(total, most):
    found = detectable_drop(total, most)
    assert missed_share(total, most, found) <= MISSED < missed_share(total, most, found - 0.1)


@pytest.mark.parametrize(("limit", "drop", "share"), [(5, 5, 0.44), (20, 20, 0.0), (20, 9, 0.59)])
def test_missed_share_matches_simulated_verdicts(limit, drop, share):
    cases, random, rounds = CaseSet(sha256="g", ids=[f"case-{i}" for i in range(100)]), Random(0), 500
    rules, baseline = golden_bar(max_drop_points=Fraction(limit)), {"BaseModel": Baseline("g", "p" * 100)}
    missed = 0
    for _ in range(rounds):
        outcomes = "".join("f" if random.random() < drop / 100 else "p" for _ in cases.ids)
        missed += judge_golden(cases, outcomes, rules, baseline).state is VerdictState.PASSED
    assert missed / rounds == pytest.approx(share, abs=0.07)


def test_text_names_both_drops():
    assert power_text(100, golden_bar()) == (
        "a model that is worse by 5 points passes 44 of 100 comparisons, and one that is worse by 9 points "
        "at most 5 of 100"
    )


def test_text_takes_the_limit_of_new_failures_into_account():
    assert power_text(100, golden_bar(max_drop_points=Fraction(20))).startswith(
        "a model that is worse by 20 points passes 0 of 100"
    )
    assert power_text(100, golden_bar(max_new_failures=0)).startswith(
        "a model that is worse by 5 points passes 1 of 100"
    )


def test_text_of_a_too_small_set_states_needed_cases():
    assert power_text(19, golden_bar()) == "too few to detect a drop of 5 points, have at least 20"


NON_INFERIOR = golden_bar(policy=DropPolicy.NON_INFERIOR)


def test_passing_share_matches_simulated_verdicts_of_equally_good_models():
    cases, random, rounds = CaseSet(sha256="g", ids=[f"case-{i}" for i in range(200)]), Random(0), 300
    passed = 0
    for _ in range(rounds):
        before, now = "", ""
        for _ in cases.ids:
            draw = random.random()
            before += "f" if 0.04 < draw < 0.08 else "p"
            now += "f" if draw < 0.04 else "p"
        verdict = judge_golden(cases, now, NON_INFERIOR, {"BaseModel": Baseline("g", before)})
        passed += verdict.state is VerdictState.PASSED
    assert passed / rounds == pytest.approx(passing_share(200, FIVE, 15), abs=0.07)


@pytest.mark.parametrize(
    ("total", "most", "share"), [(5, 5, 0.0), (59, 59, 0.31), (100, 1, 0.087), (300, 22, 0.89)]
)
def test_equally_good_models_pass_more_often_with_more_cases(total, most, share):
    assert passing_share(total, FIVE, most) == pytest.approx(share, abs=0.01)


def test_text_of_non_inferior_names_errors_and_passes():
    assert power_text(200, NON_INFERIOR) == (
        "a model that is worse by 5 points passes at most 5 of 100 comparisons, and an equally good one 74 "
        "of 100, if 8 % of its outcomes change by chance"
    )


def test_text_of_non_inferior_states_how_many_cases_are_needed():
    assert power_text(58, NON_INFERIOR).endswith("; for a model with the same outcomes, have at least 59")
    assert "have at least" not in power_text(59, NON_INFERIOR)


@pytest.mark.parametrize(("limit", "share"), [(10, 0.9), (8, 0.7), (20, 0.5)])
def test_all_larger_sets_find_the_share_too(limit, share):
    rules = golden_bar(max_drop_points=Fraction(limit))

    def found(total: int) -> float:
        most = min(ceil(Fraction(limit * total, 100)) - 1, allowed(None, total))
        return 1 - missed_share(total, most, limit)

    needed = cases_to_find(rules, share)
    assert needed is not None
    assert found(needed - 1) < share
    assert min(map(found, range(needed, MAX_CASES + 1))) >= share


@pytest.mark.parametrize(("total", "missed"), [(20, 36), (21, 72), (40, 40), (41, 66), (64, 60), (500, 47)])
def test_share_of_missed_models_is_lowest_at_multiples_of_20(total, missed):
    most = min(-(-5 * total // 100) - 1, allowed(None, total))
    assert round(100 * missed_share(total, most, 5.0)) == missed
