"""How well a golden set detects that a model is worse than its baseline."""

from fractions import Fraction
from functools import lru_cache
from math import ceil, exp, fsum, lgamma, log, log1p

from tunegate_api.judging.new_failures import Limit, allowed

MISSED = 0.05
"""A drop is called detectable if a comparison misses it with at most this probability."""
_STEP = 0.1
"""Precision of :func:`detectable_drop`, in percentage points."""


def missed_share(total: int, most: int, drop: float) -> float:
    """Return the probability with which at most ``most`` of ``total`` cases fail on a model that is worse by
    ``drop`` percentage points, so that a comparison misses the drop.

    Each case, which passes on the baseline, fails with the probability ``drop / 100``, independently of the
    others, so the number of failures is binomially distributed. If some cases are fixed at the same time, or
    fail for the same reason, more drops are missed.
    """
    failing = drop / 100
    if failing >= 1:
        return float(most >= total)

    def probability(failures: int) -> float:
        passes = total - failures
        ways = lgamma(total + 1) - lgamma(failures + 1) - lgamma(passes + 1)
        return exp(ways + failures * log(failing) + passes * log1p(-failing))

    return fsum(map(probability, range(min(most, total) + 1)))


def detectable_drop(total: int, most: int) -> float:
    """Return the smallest drop in percentage points, rounded up to a tenth, that :func:`missed_share` misses
    with a probability of at most ``MISSED``."""
    low, high = 0, round(100 / _STEP)  # in steps
    while high - low > 1:
        middle = (low + high) // 2
        if missed_share(total, most, middle * _STEP) <= MISSED:
            high = middle
        else:
            low = middle
    return high * _STEP


@lru_cache(maxsize=256)
def power_text(total: int, limit: Fraction, new_failures: Limit = None) -> str:
    """Return in words how often a comparison on ``total`` cases misses that a model is worse.

    ``limit`` and ``new_failures`` are the limits of the drop, in percentage points, and of new failures.
    """
    needed = ceil(100 / limit)
    if total < needed:
        return f"too few to detect a drop of {float(limit):g} points, have at least {needed}"
    most = min(ceil(limit * total / 100) - 1, allowed(new_failures, total))
    missed = round(100 * missed_share(total, most, float(limit)))
    found = detectable_drop(total, most)
    return (
        f"a model that is worse by {float(limit):g} points passes {missed} of 100 comparisons, "
        f"and one that is worse by {found:g} points at most {round(100 * MISSED)} of 100"
    )
