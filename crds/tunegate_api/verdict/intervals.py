"""Confidence intervals of rates. No I/O.

The intervals of pass rates are shown, but never part of a verdict. Those of a judge model decide whether its
scores count.
"""

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

CONFIDENCE = 0.95
"""The confidence level of all intervals."""
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a value between 0 and 1."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.2f} to {self.high:.2f}"


def wilson(passed: int, total: int) -> Interval:
    """Return the Wilson score interval of the rate ``passed / total``.

    With ``p = passed / total``, ``n = total`` and ``z`` the normal quantile, the bounds are ``(p + z²/2n ± z
    sqrt(p(1 - p)/n + z²/4n²)) / (1 + z²/n)`` (Wilson, Probable Inference, 1927). Brown, Cai and DasGupta
    (Interval Estimation for a Binomial Proportion, 2001) recommend this interval for small samples. Unlike
    the interval of Clopper and Pearson, it is not wider than necessary, and it has a closed form.

    Raises ValueError if ``total`` is 0.
    """
    if total < 1:
        raise ValueError("an empty set has no interval")
    share, square = passed / total, _Z * _Z
    center = share + square / (2 * total)
    distance = _Z * sqrt(share * (1 - share) / total + square / (4 * total * total))
    whole = 1 + square / total
    return Interval(max(0.0, (center - distance) / whole), min(1.0, (center + distance) / whole))
