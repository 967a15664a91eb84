"""Binomial probabilities, compared with exact sums of fractions."""

from fractions import Fraction
from math import comb

import pytest

from tunegate_api.verdict.binomial import at_most, binomial


def exact(number: int, total: int, share: str) -> Fraction:
    p = Fraction(share)
    return comb(total, number) * p**number * (1 - p) ** (total - number)


@pytest.mark.parametrize("share", ["0", "0.001", "0.05", "0.5", "0.93", "1"])
@pytest.mark.parametrize("total", [1, 2, 20, 100])
def test_probabilities_agree_with_exact_sums(total, share):
    sum_of_exact = Fraction(0)
    for number in range(total + 1):
        chance = exact(number, total, share)
        sum_of_exact += chance
        assert binomial(number, total, float(share)) == pytest.approx(float(chance), abs=1e-11)
        assert at_most(number, total, float(share)) == pytest.approx(float(sum_of_exact), abs=1e-11)


def test_no_number_is_below_zero():
    assert at_most(-1, 10, 0.5) == 0


@pytest.mark.parametrize(("number", "found"), [(100, 0), (500, 0.51261), (900, 1)])
def test_sum_of_many_cases_is_right_far_from_expectation(number, found):
    assert at_most(number, 1000, 0.5) == pytest.approx(found, abs=1e-5)
