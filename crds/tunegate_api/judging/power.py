"""How well a golden set detects that a model is worse than its baseline."""

from fractions import Fraction
from functools import cache
from math import ceil, comb

MISSED = Fraction(5, 100)
"""A drop is called detectable if a comparison misses it with at most this probability."""
_STEP = Fraction(1, 10)
"""Precision of :func:`detectable_drop`, in percentage points."""


@cache
def missed_share(total: int, limit: Fraction, drop: Fraction) -> Fraction:
    """Return the probability with which a model that is worse by ``drop`` percentage points passes a
    comparison that fails at a drop of ``limit`` points or more.

    Each of the ``total`` cases, which all pass on the baseline, fails with the probability ``drop / 100``,
    independently of the others. So the number of failures is binomially distributed. The sum is exact. If
    some cases are fixed at the same time, or share a cause, more drops are missed.
    """
    failing = drop / 100
    hit, miss = failing.numerator, failing.denominator - failing.numerator
    most = ceil(limit * total / 100) - 1
    ways = sum(comb(total, n) * hit**n * miss ** (total - n) for n in range(most + 1))
    return Fraction(ways, failing.denominator**total)


@cache
def detectable_drop(total: int, limit: Fraction) -> Fraction:
    """Return the smallest drop in percentage points, rounded up to a tenth, that :func:`missed_share` misses
    with a probability of at most ``MISSED``."""
    low, high = 0, int(100 / _STEP)  # in steps; a drop of 100 points is never missed
    while high - low > 1:
        middle = (low + high) // 2
        if missed_share(total, limit, middle * _STEP) <= MISSED:
            high = middle
        else:
            low = middle
    return high * _STEP


def power_text(total: int, limit: Fraction) -> str:
    """Return in words which drops a comparison with the limit ``limit`` misses how often."""
    missed = round(100 * missed_share(total, limit, limit))
    found = detectable_drop(total, limit)
    return (
        f"a model that is worse by {float(limit):g} points passes {missed} of 100 comparisons, "
        f"and one that is worse by {float(found):g} points at most {int(100 * MISSED)} of 100"
    )
