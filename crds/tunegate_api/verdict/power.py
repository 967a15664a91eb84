"""How well a golden set detects that a model is worse than its baseline."""

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from math import ceil, floor, fsum

from tunegate_api.verdict.allowed_failures import FLIPPED, allowed
from tunegate_api.verdict.bar import Bar
from tunegate_api.verdict.binomial import binomial
from tunegate_api.verdict.groups import changed_together, group_sizes, independent_cases
from tunegate_api.verdict.outcomes import MAX_CASES, DropPolicy
from tunegate_api.verdict.paired import ALPHA, PairedCounts, fewest_cases, is_below

MISSED = 0.05
"""A drop is called detectable if a comparison misses it with at most this probability."""
_STEP = 0.1
"""Precision of :func:`detectable_drop`, in percentage points."""
_NEGLIGIBLE = 1e-5
"""Numbers of cases with a smaller probability are left out of sums."""


def missed_share(total: int, most: int, drop: float, sizes: tuple[int, ...] = ()) -> float:
    """Return the probability with which at most ``most`` of ``total`` cases fail on a model that is worse by
    ``drop`` percentage points, so that a comparison misses the drop. ``sizes`` are the numbers of cases in
    each group; empty if all cases are independent.

    Each case, which passes on the baseline, fails with the probability ``drop / 100``. The cases of a group
    fail together, and groups fail independently of each other. So without groups, the number of failures is
    binomially distributed. If some cases are fixed at the same time, more drops are missed.
    """
    failing = drop / 100
    if failing >= 1:
        return float(most >= total)

    def chances(count: int, most: int) -> list[float]:
        return [binomial(number, count, failing) for number in range(most + 1)]

    return fsum(changed_together(sizes or (1,) * total, chances, min(most, total)))


def detectable_drop(total: int, most: int, sizes: tuple[int, ...] = ()) -> float:
    """Return the smallest drop in percentage points, rounded up to a tenth, that :func:`missed_share` misses
    with a probability of at most ``MISSED``."""
    low, high = 0, round(100 / _STEP)  # in steps
    while high - low > 1:
        middle = (low + high) // 2
        if missed_share(total, most, middle * _STEP, sizes) <= MISSED:
            high = middle
        else:
            low = middle
    return high * _STEP


@lru_cache(maxsize=256)
def passing_share(total: int, limit: Fraction, most: int) -> float:
    """Return the probability with which an equally good model passes the policy NonInferior on ``total``
    cases, with the limit ``limit`` of the drop in percentage points and at most ``most`` new failures.

    A share of ``FLIPPED`` of the cases is assumed to change its outcome as if by the toss of a coin. Results
    with a negligible probability count as not passed.
    """
    share, passing, refused = float(FLIPPED / 2), 0.0, 0  # with fewer improved cases than this, none passes
    for regressed in range(min(most, total) + 1):
        here, rest = binomial(regressed, total, share), total - regressed
        chances = [binomial(number, rest, share / (1 - share)) for number in range(rest + 1)]
        at_least = [here * chance for chance in accumulate(reversed(chances), initial=0.0)][::-1]
        improved = max(refused, sum(here - chance < _NEGLIGIBLE for chance in at_least) - 1)
        improved = min(improved, rest + 1)
        while at_least[improved] > _NEGLIGIBLE and not _passes(total, regressed, improved, limit):
            improved += 1
            refused = improved
        passing += at_least[improved]
    return passing


def _passes(total: int, regressed: int, improved: int, limit: Fraction) -> bool:
    return is_below(PairedCounts(total, regressed, improved), limit)


@lru_cache(maxsize=64)
def cases_to_find(bar: Bar, share: float) -> int | None:
    """Return the smallest number of independent golden cases with which, and with all larger numbers, the
    policy Points finds at least this share of the models that are worse by the limit, see
    :func:`missed_share`. Returns None if no golden set can be so large."""
    limit = bar.drop.limit
    needed = None
    for total in range(MAX_CASES, ceil(100 / limit) - 1, -1):
        most = min(ceil(limit * total / 100) - 1, allowed(bar.new_failures.most, total))
        if 1 - missed_share(total, most, float(limit)) < share:
            break
        needed = total
    return needed


def power_text(total: int, bar: Bar, groups: Sequence[int] = ()) -> str:
    """Return in words how often a comparison of ``total`` cases misses that a model is worse. ``groups`` has
    the number of each case's group, see :class:`~tunegate_api.verdict.outcomes.CaseSet`.

    All cases of a group are assumed to have the same outcome. For ``NonInferior``, the share of equally good
    models that pass is exact if all groups have the same size, and otherwise that of as many independent
    cases as the groups are worth.
    """
    limit, most = bar.drop.limit, allowed(bar.new_failures.most, total, groups)
    independent = independent_cases(total, groups)
    cases = "case" if independent == 1 else "cases"
    text = f"groups count as {independent} independent {cases}; " if independent < total else ""
    if bar.drop.policy is DropPolicy.NON_INFERIOR:
        return text + _of_non_inferior(independent, limit, most * independent // total)
    if independent < ceil(100 / limit):
        return f"{text}too few to detect a drop of {float(limit):g} points, have at least {ceil(100 / limit)}"
    return text + _of_points(total, limit, most, group_sizes(total, groups))


def _of_points(total: int, limit: Fraction, most: int, sizes: tuple[int, ...]) -> str:
    most = min(ceil(limit * total / 100) - 1, most)
    missed = round(100 * missed_share(total, most, float(limit), sizes))
    found = detectable_drop(total, most, sizes)
    return (
        f"a model that is worse by {float(limit):g} points passes {missed} of 100 comparisons, "
        f"and one that is worse by {found:g} points at most {round(100 * MISSED)} of 100"
    )


def _of_non_inferior(total: int, limit: Fraction, most: int) -> str:
    fewest, equal = fewest_cases(limit), floor(100 * passing_share(total, limit, most))
    text = (
        f"a model that is worse by {float(limit):g} points passes at most {round(100 * ALPHA)} of 100 "
        f"comparisons, and an equally good one {equal} of 100, if {float(100 * FLIPPED):g} % of its outcomes "
        "change by chance"
    )
    if total < fewest:
        text += f"; for a model with the same outcomes, have at least {fewest}"
    return text
