"""New failures: cases that a baseline passes and a model fails, and how many of them a gate allows."""

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from math import comb, floor

from tunegate_api.judging.groups import changed_together, group_sizes

FLIPPED = Fraction(8, 100)
"""Share of the cases whose outcome is assumed to change between two equally good models, as if by the toss of
a coin: half of them to a failure."""
FALSE_ALARMS = Fraction(1, 100)
"""Largest probability with which the default limit fails such a model."""

Limit = int | Fraction | None
"""How many new failures are allowed: a number of cases, a share of all cases, or :func:`default_limit`."""


def allowed(limit: Limit, total: int, groups: Sequence[int] = ()) -> int:
    """Return how many of ``total`` cases may be new failures. ``groups`` has the number of each case's group,
    see :class:`~tunegate_api.judging.outcomes.CaseSet`."""
    if limit is None:
        return default_limit(total, group_sizes(total, groups))
    return limit if isinstance(limit, int) else floor(limit * total)


@lru_cache(maxsize=256)
def default_limit(total: int, sizes: tuple[int, ...] = ()) -> int:
    """Return the smallest number that an equally good model exceeds with a probability of at most
    ``FALSE_ALARMS``. ``sizes`` are the numbers of cases in each group; empty if all cases are independent.

    All cases of a group are assumed to change together, which makes the number of new failures vary most.
    Each group changes to a failure with the probability ``FLIPPED / 2``. So without groups, the number of new
    failures is binomially distributed. The sum is exact.
    """
    sizes = sizes or (1,) * total
    failing, passing = FLIPPED / 2, 1 - FALSE_ALARMS
    hit, miss = failing.numerator, failing.denominator - failing.numerator

    def chance(number: int, count: int) -> int:
        ways: int = comb(count, number) * hit**number * miss ** (count - number)
        return ways

    # In units of failing.denominator**-len(sizes), all probabilities of the distribution are integers.
    needed = passing.numerator * failing.denominator ** len(sizes)
    for number, within in enumerate(accumulate(changed_together(sizes, chance, total))):
        if within * passing.denominator >= needed:
            return number
    return total
