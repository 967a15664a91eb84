"""The exact paired test, checked by enumerating all results, without its own sums and shortcuts."""

from fractions import Fraction
from functools import cache
from importlib.util import find_spec, module_from_spec
from math import comb
from random import Random
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunegate_api.verdict.paired import PairedCounts, bounds, fewest_cases, is_at_least, is_below

GRID = [i / 40 for i in range(21)] + [0.001, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08]


@cache
def decided(total: int, limit: Fraction) -> tuple[list[PairedCounts], list[PairedCounts]]:
    """Return all results that pass and all that fail."""
    results = [PairedCounts(total, r, f) for r in range(total + 1) for f in range(total + 1 - r)]
    return [c for c in results if is_below(c, limit)], [c for c in results if is_at_least(c, limit)]


def probability(results: list[PairedCounts], regressing: float, improving: float) -> float:
    unchanged = max(0.0, 1 - regressing - improving)
    return sum(
        comb(c.total, c.regressed)
        * comb(c.total - c.regressed, c.improved)
        * regressing**c.regressed
        * improving**c.improved
        * unchanged ** (c.total - c.regressed - c.improved)
        for c in results
    )


@pytest.mark.parametrize(("total", "limit"), [(10, 40), (12, 30), (20, 15), (30, 10), (30, 50), (60, 5)])
def test_model_that_is_worse_by_the_limit_rarely_passes(total, limit):
    passing, _ = decided(total, Fraction(limit))
    assert passing
    for more in (0, 0.01, 0.05):
        drop = limit / 100 + more
        errors = [probability(passing, q + drop, q) for q in GRID if 2 * q + drop <= 1]
        assert max(errors) <= 0.05
    # Not much stricter than necessary.
    assert max(probability(passing, q + limit / 100, q) for q in GRID if 2 * q + limit / 100 <= 1) > 0.02


@pytest.mark.parametrize(("total", "limit"), [(10, 40), (12, 30), (20, 15), (30, 10), (30, 50), (60, 5)])
def test_model_worse_by_less_than_the_limit_rarely_fails(total, limit):
    _, failing = decided(total, Fraction(limit))
    assert failing
    for less in (0.0001, 0.01, 0.05, 0.2):
        drop = limit / 100 - less
        errors = [probability(failing, q + drop, q) for q in GRID if 2 * q + drop <= 1 and q + drop >= 0]
        assert max(errors) <= 0.05


@pytest.mark.parametrize(("total", "limit"), [(12, 30), (20, 15), (60, 5)])
def test_one_more_regressed_or_one_less_improved_case_never_helps(total, limit):
    passing, failing = (set(results) for results in decided(total, Fraction(limit)))
    for c in passing:
        assert c.regressed == 0 or PairedCounts(total, c.regressed - 1, c.improved) in passing
        assert (
            c.regressed + c.improved == total or PairedCounts(total, c.regressed, c.improved + 1) in passing
        )
    for c in failing:
        assert c.improved == 0 or PairedCounts(total, c.regressed, c.improved - 1) in failing
        assert (
            c.regressed + c.improved == total or PairedCounts(total, c.regressed + 1, c.improved) in failing
        )
    assert not passing & failing


def test_shown_bounds_cover_the_true_drop():
    total, limit = 20, Fraction(15)
    shown = {
        (r, f): bounds(PairedCounts(total, r, f), limit)
        for r in range(total + 1)
        for f in range(total + 1 - r)
    }
    for drop in (-0.2, 0.0, 0.05, 0.15, 0.4):
        too_low = [PairedCounts(total, *c) for c, (_, high) in shown.items() if (high + 1) / 1000 <= drop]
        too_high = [PairedCounts(total, *c) for c, (low, _) in shown.items() if low / 1000 > drop]
        for results in (too_low, too_high):
            errors = [probability(results, q + drop, q) for q in GRID if 2 * q + drop <= 1 and q + drop >= 0]
            assert max(errors) <= 0.051


@pytest.mark.parametrize(
    ("limit", "fewest"),
    [("0.5", 598), ("1", 299), ("2.5", 119), ("5", 59), ("10", 29), ("50", 5), ("100", 1)],
)
def test_unchanged_outcomes_pass_from_the_smallest_possible_number(limit, fewest):
    exact = Fraction(limit)
    assert fewest_cases(exact) == fewest
    assert is_below(PairedCounts(fewest, 0, 0), exact)
    assert fewest == 1 or (1 - exact / 100) ** (fewest - 1) > Fraction(1, 20)


def test_model_that_lost_every_case_never_passes():
    assert not is_below(PairedCounts(30, 30, 0), Fraction(100))
    assert is_below(PairedCounts(30, 29, 0), Fraction(100))


@given(st.integers(1, 60), st.integers(0, 60), st.integers(0, 60), st.integers(1, 500))
@settings(max_examples=40, deadline=None)
def test_bounds_are_never_equal_and_agree_with_the_decision(total, regressed, improved, tenths):
    regressed = min(regressed, total)
    counts = PairedCounts(total, regressed, min(improved, total - regressed))
    limit = Fraction(tenths, 10)
    low, high = bounds(counts, limit)
    assert -1000 <= low < high <= 1000
    assert low < 10 * counts.drop + 1
    assert high > 10 * counts.drop - 1
    assert (high < tenths) is is_below(counts, limit)
    assert (low >= tenths) is is_at_least(counts, limit)


def without_earlier_comparisons() -> ModuleType:
    """Return a new copy of the module, which knows no results yet."""
    spec = find_spec("tunegate_api.verdict.paired")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", range(3))
def test_bounds_do_not_depend_on_the_comparisons_before(seed):
    total, limit, warm = 20, Fraction(15), without_earlier_comparisons()
    results = [(r, f) for r in range(total + 1) for f in range(total + 1 - r)]
    for r, f in Random(seed).sample(results, 60):
        cold = without_earlier_comparisons()
        assert warm.bounds(warm.PairedCounts(total, r, f), limit) == cold.bounds(
            cold.PairedCounts(total, r, f), limit
        )


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        ((1, 0, 0), -951, 950),  # the probability at the bound is exactly 5 %
        ((2, 1, 0), -613, 974),
        ((20, 0, 0), -140, 139),
        ((20, 4, 1), -57, 354),
        ((59, 0, 0), -50, 49),
        ((60, 1, 12), -289, -80),
        ((100, 4, 4), -55, 54),
        ((100, 10, 23), -228, -32),
        ((300, 12, 9), -17, 37),
        ((1000, 60, 40), 2, 37),
    ],
)
def test_bounds_are_exact_to_the_tenth_of_a_point(counts, low, high):
    assert bounds(PairedCounts(*counts), Fraction(5)) == (low, high)


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        # The bounds of the score interval of Tango (1998), which are approximate, but close with many cases.
        (PairedCounts(1000, 60, 40), 0.35, 3.66),
        (PairedCounts(500, 20, 20), -2.09, 2.09),
    ],
)
def test_bounds_are_close_to_the_approximate_interval(counts, low, high):
    found = bounds(counts, Fraction(5))
    assert (found[0] / 10, found[1] / 10) == pytest.approx((low, high), abs=0.3)
