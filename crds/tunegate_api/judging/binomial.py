"""The binomial distribution. No I/O."""

from collections.abc import Sequence
from functools import lru_cache
from math import exp, lgamma, log, log1p


def binomial(number: int, total: int, share: float) -> float:
    """Return the probability of ``number`` of ``total`` independent cases, each with the probability
    ``share``."""
    if share <= 0 or share >= 1:
        return float(number == (total if share >= 1 else 0))
    return exp(_log_ways(number, total) + number * log(share) + (total - number) * log1p(-share))


@lru_cache(maxsize=16)
def log_ways(total: int) -> Sequence[float]:
    """Return the logarithms of the binomial coefficients of ``total``."""
    return [_log_ways(number, total) for number in range(total + 1)]


def _log_ways(number: int, total: int) -> float:
    return lgamma(total + 1) - lgamma(number + 1) - lgamma(total - number + 1)
