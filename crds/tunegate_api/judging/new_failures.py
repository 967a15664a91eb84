"""New failures: cases that a baseline passes and a model fails, and how many of them a gate allows."""

from fractions import Fraction
from functools import lru_cache
from math import floor

FLIPPED = Fraction(8, 100)
"""Share of the cases whose outcome is assumed to change between two equally good models, as if by the toss of
a coin: half of them to a failure."""
FALSE_ALARMS = Fraction(1, 100)
"""Largest probability with which the default limit fails such a model."""

Limit = int | Fraction | None
"""How many new failures are allowed: a number of cases, a share of all cases, or :func:`default_limit`."""


def allowed(limit: Limit, total: int) -> int:
    """Return how many of ``total`` cases may be new failures."""
    if limit is None:
        return default_limit(total)
    return limit if isinstance(limit, int) else floor(limit * total)


@lru_cache(maxsize=256)
def default_limit(total: int) -> int:
    """Return the smallest number that an equally good model exceeds with a probability of at most
    ``FALSE_ALARMS``.

    The number of new failures of an equally good model is binomially distributed, with ``total`` trials and
    the probability ``FLIPPED / 2``. The sum is exact.
    """
    failing, passing = FLIPPED / 2, 1 - FALSE_ALARMS
    hit, miss = failing.numerator, failing.denominator - failing.numerator
    # In units of failing.denominator**-total, all probabilities of the distribution are integers.
    needed = passing.numerator * failing.denominator**total
    within, here = 0, miss**total
    for number in range(total + 1):
        within += here
        if within * passing.denominator >= needed:
            return number
        here = here * (total - number) * hit // ((number + 1) * miss)
    return total
