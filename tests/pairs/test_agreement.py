"""Agreement between raters: Kendall's tau-b as scipy computes it, and the share of equal opinions."""

import math
import random

import pytest

from tunegate_api.preference import Ranking
from tunegate_client.pairs.agreement import agreements, tau_b


@pytest.mark.parametrize("seed", range(50))
def test_tau_b_equals_that_of_scipy(seed):
    from scipy.stats import kendalltau

    draw = random.Random(seed)
    count = draw.randint(2, 9)
    first, second = ({f"c{n}": draw.randint(0, 3) for n in range(count)} for _ in range(2))
    expected = kendalltau([first[id] for id in first], [second[id] for id in first]).statistic
    found = tau_b(first, second)
    assert found is None if math.isnan(expected) else found == pytest.approx(expected)


def ranking(rater, id, *groups):
    return Ranking(id=id, rater=rater, ranking=[list(group) for group in groups])


def test_raters_are_compared_on_what_both_ranked():
    found = agreements(
        [
            ranking("ben", "p1", "a", "b", "c"),
            ranking("ana", "p1", "a", "c", "b"),
            ranking("ana", "p2", "ab"),
            ranking("ben", "p2", "ab", "c"),
            ranking("eva", "p3", "a", "b"),
        ]
    )
    (one,) = found
    assert one.raters == ("ana", "ben")
    assert one.tau == pytest.approx(1 / 3), "the tau of p2 is not defined, because all are equal"
    assert (one.same, one.compared) == (3, 4)
