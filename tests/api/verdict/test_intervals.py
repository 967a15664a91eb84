"""Confidence intervals of pass rates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunegate_api.verdict.intervals import wilson


@given(st.integers(1, 1000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_equals_that_of_scipy(counts):
    from scipy.stats import binomtest

    passed, total = counts
    found, expected = wilson(passed, total), binomtest(passed, total).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= found.low < found.high <= 1


def test_empty_set_has_no_interval():
    with pytest.raises(ValueError, match="an empty set has no interval"):
        wilson(0, 0)
