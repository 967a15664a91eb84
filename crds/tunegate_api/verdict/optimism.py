"""By how much the best of several measured pass rates is too high. No I/O."""

from functools import lru_cache
from math import ceil, exp, log

from tunegate_api.verdict.binomial import log_ways

_HALVINGS = 14
"""The true rate is found to 1/2¹⁴, which is less than 0.01 percentage points."""


def best_rate(measurements: int, cases: int, true_rate: float) -> float:
    """Return the expected highest pass rate of independent ``measurements`` on ``cases`` cases, of models
    that all have the ``true_rate``.

    The number of passed cases of one model has a binomial distribution with the cumulative distribution
    function F. The highest of N numbers is at most k with probability F(k)^N, so its expected value is the
    sum of 1 - F(k)^N over k = 0 to n - 1 (David and Nagaraja, Order Statistics, 3rd edition, 2003, section
    3.1).
    """
    if not 0 < true_rate < 1:
        return true_rate
    passes, fails = log(true_rate), log(1 - true_rate)
    below, expected = 0.0, 0.0
    for k, ways in enumerate(log_ways(cases)[:-1]):
        below += exp(ways + k * passes + (cases - k) * fails)
        expected += 1 - min(1.0, below) ** measurements
    return expected / cases


@lru_cache(maxsize=256)
def optimism(measurements: int, passed: int, total: int, independent: int | None = None) -> float:
    """Return by how many percentage points the rate ``passed / total`` is too high on average, if it is the
    highest of ``measurements`` rates of equally good models.

    It is the measured rate minus the true rate for which :func:`best_rate` is the measured rate. This is an
    upper bound of the mean, because measurements of checkpoints are not independent of each other: most cases
    pass or fail at all of them. A single rate can be further off. ``independent`` is the number of
    independent cases, see
    :func:`tunegate_api.verdict.groups.independent_cases`. If all cases passed, half a case less is taken as
    measured: no true rate below 1 is expected to give the rate 1.
    """
    cases = independent or total
    if measurements < 2 or not total:
        return 0.0
    measured = min(passed / total, 1 - 1 / (2 * cases))
    low, high = 0.0, measured
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if best_rate(measurements, cases, middle) < measured:
            low = middle
        else:
            high = middle
    return 100 * (passed / total - (low + high) / 2)


def optimism_text(points: float) -> str:
    """Format an upper bound of a mean as ``5.3``: further digits are rounded up."""
    return f"{ceil(points * 10 - 0.01) / 10:.1f}"
