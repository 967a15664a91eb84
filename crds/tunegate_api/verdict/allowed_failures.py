"""New failures: cases that a baseline passes and a model fails, and how many of them a gate allows."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from math import floor

from tunegate_api.verdict.groups import changed_together, group_sizes

FLIPPED = Fraction(8, 100)
"""Share of the cases whose outcome is assumed to change between two equally good models, as if by the toss of
a coin: half of them to a failure."""
FALSE_ALARMS = Fraction(1, 100)
"""Largest probability with which the default limit fails such a model."""

_FIRST_TRIED = 64
"""Default limits are searched among the numbers up to this one first. With groups, they can be larger."""

Limit = int | Fraction | None
"""How many new failures are allowed: a number of cases, a share of all cases, or :func:`default_limit`."""


def allowed(limit: Limit, total: int, groups: Sequence[int] = ()) -> int:
    """Return how many of ``total`` cases may be new failures. ``groups`` has the number of each case's group,
    see :class:`~tunegate_api.verdict.outcomes.CaseSet`."""
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
    # In units of failing.denominator**-len(sizes), all probabilities of the distribution are integers.
    needed = passing.numerator * failing.denominator ** len(sizes)
    for most in (min(_FIRST_TRIED, total), total):
        for number, within in enumerate(accumulate(changed_together(sizes, _ways, most))):
            if within * passing.denominator >= needed:
                return number
    return total


def _ways(count: int, most: int) -> Iterator[int]:
    """Yield the probability that 0 to ``most`` of ``count`` groups change to a failure, in units of
    ``denominator**-count`` of the share."""
    failing = FLIPPED / 2
    hit, miss = failing.numerator, failing.denominator - failing.numerator
    here = miss**count
    for number in range(most + 1):
        yield here
        here = here * (count - number) * hit // ((number + 1) * miss)
