"""How often a drop is missed, compared with scipy and with simulated comparisons."""

from fractions import Fraction
from random import Random

import pytest
from scipy.stats import binom

from tunegate_api.judging.power import MISSED, detectable_drop, missed_share, power_text
from tunegate_api.judging.verdict import Baseline, CaseSet, Rules, VerdictState, judge_golden

FIVE = Fraction(5)


@pytest.mark.parametrize(
    ("total", "most", "drop"),
    [(20, 0, 5), (50, 2, 5), (100, 4, 9), (500, 24, 6), (1000, 999, 99.9), (100, 100, 100), (100, 9, 100)],
)
def test_missed_share_is_the_binomial_distribution(total, most, drop):
    assert missed_share(total, most, drop) == pytest.approx(binom.cdf(most, total, drop / 100), abs=1e-9)


@pytest.mark.parametrize(("total", "most"), [(20, 0), (48, 2), (100, 4), (200, 9), (1000, 49)])
def test_detectable_drop_is_the_smallest_tenth_that_is_rarely_missed(total, most):
    found = detectable_drop(total, most)
    assert missed_share(total, most, found) <= MISSED < missed_share(total, most, found - 0.1)


@pytest.mark.parametrize(("limit", "drop", "share"), [(5, 5, 0.44), (20, 20, 0.0), (20, 9, 0.59)])
def test_missed_share_matches_simulated_verdicts(limit, drop, share):
    cases, random, rounds = CaseSet(sha256="g", ids=[f"case-{i}" for i in range(100)]), Random(0), 500
    rules, baseline = Rules(max_drop_points=Fraction(limit)), {"BaseModel": Baseline("g", "p" * 100)}
    missed = 0
    for _ in range(rounds):
        outcomes = "".join("f" if random.random() < drop / 100 else "p" for _ in cases.ids)
        missed += judge_golden(cases, outcomes, rules, baseline).state is VerdictState.PASSED
    assert missed / rounds == pytest.approx(share, abs=0.07)


def test_text_names_both_drops():
    assert power_text(100, FIVE) == (
        "a model that is worse by 5 points passes 44 of 100 comparisons, and one that is worse by 9 points "
        "at most 5 of 100"
    )


def test_text_takes_the_limit_of_new_failures_into_account():
    assert power_text(100, Fraction(20)).startswith("a model that is worse by 20 points passes 0 of 100")
    assert power_text(100, FIVE, 0).startswith("a model that is worse by 5 points passes 1 of 100")


def test_text_of_a_set_that_is_too_small_states_how_many_cases_are_needed():
    assert power_text(19, FIVE) == "too few to detect a drop of 5 points, have at least 20"
