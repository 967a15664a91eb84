"""The binomial distribution. No I/O."""

from collections.abc import Sequence
from functools import lru_cache
from math import exp, lgamma, log, log1p

_NEGLIGIBLE = 1e-13
"""Terms of a sum with a smaller probability are left out."""


def binomial(number: int, total: int, share: float) -> float:
    """Return the probability of ``number`` of ``total`` independent cases, each with the probability
    ``share``."""
    if share <= 0 or share >= 1:
        return float(number == (total if share >= 1 else 0))
    return exp(_log_ways(number, total) + number * log(share) + (total - number) * log1p(-share))


def at_most(number: int, total: int, share: float, *, exactly: float | None = None) -> float:
    """Return the probability of at most ``number`` of ``total`` independent cases, each with the probability
    ``share``. ``exactly`` is :func:`binomial` of ``number``, if it is known.

    The sum starts at ``number`` and goes to the end where each term is smaller than the one before.
    """
    if number < 0 or number >= total:
        return float(number >= 0)
    if share <= 0 or share >= 1:
        return float(share <= 0)
    chance = binomial(number, total, share) if exactly is None else exactly
    odds, found = share / (1 - share), 0.0
    if number < total * share:
        while chance > _NEGLIGIBLE:
            found += chance
            chance *= number / ((total - number + 1) * odds)
            number -= 1
        return found
    while chance > _NEGLIGIBLE:
        chance *= (total - number) / (number + 1) * odds
        number += 1
        found += chance
    return 1 - found


@lru_cache(maxsize=16)
def log_ways(total: int) -> Sequence[float]:
    """Return the logarithms of the binomial coefficients of ``total``."""
    return [_log_ways(number, total) for number in range(total + 1)]


def _log_ways(number: int, total: int) -> float:
    return lgamma(total + 1) - lgamma(number + 1) - lgamma(total - number + 1)
