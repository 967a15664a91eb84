"""How often a drop is missed, compared with scipy and with simulated comparisons."""

from fractions import Fraction
from random import Random

import pytest
from scipy.stats import binom

from tunegate_api.judging.power import MISSED, detectable_drop, missed_share, power_text
from tunegate_api.judging.verdict import Baseline, CaseSet, Rules, VerdictState, judge_golden

FIVE = Fraction(5)


@pytest.mark.parametrize(("total", "drop"), [(20, 5), (50, 5), (100, 5), (100, 9), (500, 6), (1000, 5)])
def test_missed_share_is_the_binomial_distribution_below_the_limit(total, drop):
    most = -(-total * 5 // 100) - 1  # the largest number of failures that is less than 5 points
    assert float(missed_share(total, FIVE, Fraction(drop))) == pytest.approx(
        binom.cdf(most, total, drop / 100)
    )


@pytest.mark.parametrize("total", [20, 48, 100, 200, 1000])
def test_detectable_drop_is_the_smallest_tenth_that_is_rarely_missed(total):
    found = detectable_drop(total, FIVE)
    assert missed_share(total, FIVE, found) <= MISSED
    assert missed_share(total, FIVE, found - Fraction(1, 10)) > MISSED


def test_missed_share_matches_simulated_verdicts():
    cases, random, rounds = CaseSet(sha256="g", ids=[f"case-{i}" for i in range(100)]), Random(0), 1000
    rules, baseline = Rules(max_new_failures=100), {"BaseModel": Baseline("g", "p" * 100)}
    missed = 0
    for _ in range(rounds):
        outcomes = "".join("f" if random.random() < 0.05 else "p" for _ in cases.ids)
        missed += judge_golden(cases, outcomes, rules, baseline).state is VerdictState.PASSED
    assert missed / rounds == pytest.approx(float(missed_share(100, FIVE, FIVE)), abs=0.05)


def test_text_names_both_drops():
    assert power_text(100, FIVE) == (
        "a model that is worse by 5 points passes 44 of 100 comparisons, and one that is worse by 9 points "
        "at most 5 of 100"
    )
