"""The exact paired test of a drop: is a model worse than its baseline by less than a limit? No I/O.

Both models answered the same ``total`` cases. Only the cases with a changed outcome matter: ``regressed``
cases passed on the baseline and fail on the model, and ``improved`` cases the other way round. The drop is
``(regressed - improved) / total``. Its true value is ``p - q``, if a case regresses with the probability
``p`` and improves with the probability ``q``.

The test is the exact unconditional test of Hsueh, Liu and Chen (Unconditional Exact Tests for Equivalence or
Noninferiority for Paired Binary Endpoints, Biometrics 57, 2001). It orders the results by the score statistic
of Tango (Equivalence Test and Confidence Interval for the Difference in Proportions for the Paired-Sample
Design, Statistics in Medicine 17, 1998). A drop is rejected if, for every ``q``, a model with this drop has
such a result, or one that looks still better, with a probability of at most ``ALPHA``. So the test errs with
at most this probability, whatever ``p`` and ``q`` are, for every number of cases. The normal approximation, a
t test or a bootstrap of the differences give no such guarantee, and have no width at all if all cases agree.

The test needs independent cases. If cases are in groups, such as variants of one prompt, the counts are
scaled to the number of independent cases that they are worth if all cases of a group have the same outcome.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor, inf, log, log1p, sqrt

from tunegate_api.verdict.binomial import at_most, binomial
from tunegate_api.verdict.outcomes import MAX_CASES

ALPHA = 0.05
"""Largest probability with which a test errs, and so with which a bound is on the wrong side of the true
drop."""
_ROUNDING = 1e-9
"""More than the error of the sums of floating-point numbers."""
_EXPONENT = 23
"""Minus the logarithm of a negligible probability, 1e-10."""
_LEAST, _MOST = 1e-300, 1 - 1e-15
"""The smallest and the largest probability in a quotient, so that it is finite."""
_INTERVALS = 1000
"""Maximum number of intervals of ``q`` that a test looks at. With more, it would reject more drops, but never
one that must not be rejected."""
_PLACES = [(i / 24) ** 3 for i in (0, 24, 12, 9, 18, 6, 15, 3, 21, *(i for i in range(24) if i % 3))]
"""Where in the range of ``q`` a bound is computed: more often among small values, which are common. The first
places show most drops that are not rejected."""


@dataclass(frozen=True)
class PairedCounts:
    """The cases of a comparison whose outcomes differ between the baseline and the model."""

    total: int
    regressed: int
    improved: int
    independent: int | None = None
    """How many independent cases the cases are worth. None if they are independent."""

    @property
    def drop(self) -> Fraction:
        """The drop of the pass rate in percentage points. It is negative if the model is better."""
        return Fraction(100 * (self.regressed - self.improved), self.total)

    @property
    def swapped(self) -> "PairedCounts":
        """The counts of the comparison of the baseline with the model."""
        return PairedCounts(self.total, self.improved, self.regressed, self.independent)

    @property
    def of_independent(self) -> "PairedCounts":
        """The counts of the same drop, or of a larger one, with independent cases only. If all cases of a
        group have the same outcome, and all groups have the same size, these are the numbers of groups."""
        if self.independent in (None, self.total):
            return PairedCounts(self.total, self.regressed, self.improved)
        regressed = -(-self.regressed * self.independent // self.total)
        return PairedCounts(self.independent, regressed, self.improved * self.independent // self.total)


@lru_cache(maxsize=4096)
def is_below(counts: PairedCounts, limit: Fraction) -> bool:
    """Return whether the upper 95 % bound of the drop is below ``limit``, in percentage points."""
    counts = counts.of_independent
    return _boundary(counts.total, float(limit) / 100, _rejects).is_rejected_by(counts)


@lru_cache(maxsize=4096)
def is_at_least(counts: PairedCounts, limit: Fraction) -> bool:
    """Return whether the lower 95 % bound of the drop is at or above ``limit``, in percentage points."""
    return is_below(counts.swapped, -limit)


@lru_cache(maxsize=4096)
def bounds(counts: PairedCounts, limit: Fraction) -> tuple[int, int]:
    """Return the lower and the upper 95 % bound of the drop in tenths of a percentage point, cut off.

    Each bound is on the wrong side of the true drop with a probability of at most ``ALPHA``, except that the
    order of the results depends on the drop: for about one of 60 results, a few drops beyond the bound are
    not rejected, because of a probability of up to 0.064 instead of 0.05. Verdicts only use :func:`is_below`
    and :func:`is_at_least`, with which both bounds agree.
    """
    return -min(_highest_kept(counts.swapped, -limit) + 1, 1000), _highest_kept(counts, limit)


@lru_cache(maxsize=256)
def fewest_cases(limit: Fraction) -> int:
    """Return the smallest number of cases with which a model without any changed outcome has an upper bound
    below ``limit``, in percentage points: 59 for 5 points. It may be larger than a golden set can be."""
    if limit >= 100:
        return 1
    total = ceil(log(ALPHA) / log1p(-float(limit) / 100) - _ROUNDING)
    while total <= MAX_CASES and not is_below(PairedCounts(total, 0, 0), limit):
        total += 1
    return total


def _highest_kept(counts: PairedCounts, limit: Fraction) -> int:
    """Return the upper bound of the drop in tenths of a percentage point, cut off: a drop that is not
    rejected, while the next larger one is. ``q`` has only the values at ``_PLACES``, except for the drop
    ``limit``."""
    counts = counts.of_independent
    kept, rejected = floor(10 * counts.drop), 1001
    if is_below(counts, limit):
        rejected = max(ceil(10 * limit), kept + 1)
    else:
        kept = max(floor(10 * limit), kept)
    while rejected - kept > 1:
        middle = (kept + rejected) // 2
        if _boundary(counts.total, middle / 1000, _rejects_at_places).is_rejected_by(counts):
            rejected = middle
        else:
            kept = middle
    return kept


Results = Sequence[int]
"""A set of results: for each number of improved cases, up to how many cases regressed. -1 stands for none. It
ends with the first number of improved cases for which all other cases may have regressed."""
Test = Callable[[int, Results, float], bool]
"""Whether the number of all cases and a set of results reject a drop."""


@dataclass
class _Boundary:
    """Which results reject one drop, as far as it is known.

    The results with at most the score of a result include those of each lower score. So a result rejects the
    drop if one with a higher score does, and few of all results have to be tested.
    """

    total: int
    drop: float
    test: Test
    rejected: float | None = None
    """The highest score that is known to reject the drop."""
    kept: float | None = None
    """The lowest score that is known not to reject it."""

    def is_rejected_by(self, counts: PairedCounts) -> bool:
        score = _score(self.total, counts.regressed, counts.improved, self.drop)
        if self.rejected is not None and score <= self.rejected:
            return True
        if self.kept is not None and score >= self.kept:
            return False
        is_rejected = self.test(self.total, _better_results(self.total, score, self.drop), self.drop)
        if is_rejected:
            self.rejected = score
        else:
            self.kept = score
        return is_rejected


@lru_cache(maxsize=4096)
def _boundary(total: int, drop: float, test: Test) -> _Boundary:
    return _Boundary(total, drop, test)


def _rejects_at_places(total: int, results: Results, drop: float, allowed: float = ALPHA) -> bool:
    """Return whether a model with the true drop ``drop`` has one of ``results`` with a probability of at most
    ``allowed``, for the values of ``q`` at ``_PLACES``."""
    low, high = _improving(drop)
    if not _is_above(allowed, total, results, low + drop, high):  # at least that of each q, see _rejects
        return True
    places = (low + place * (high - low) for place in _PLACES)
    return not any(_is_above(allowed, total, results, q + drop, q) for q in places)


def _rejects(total: int, results: Results, drop: float) -> bool:
    """Return whether a model with the true drop ``drop`` or a larger one has, for every ``q``, one of
    ``results`` with a probability of at most ``ALPHA``.

    Better results have fewer regressed or more improved cases. So within an interval of ``q`` the probability
    is at most that of the smallest ``p`` and the largest ``q`` in it. Intervals for which this is too much
    are halved. The test looks at up to ``_INTERVALS`` of them.
    """
    allowed = ALPHA - _ROUNDING
    if not _rejects_at_places(total, results, drop, allowed):
        return False
    intervals, seen = [_improving(drop)], 0
    while intervals and seen < _INTERVALS:
        low, high = intervals.pop()
        seen += 1
        if _is_above(allowed, total, results, low + drop, high):
            middle = (low + high) / 2
            intervals += [(middle, high), (low, middle)]
    return not intervals


def _improving(drop: float) -> tuple[float, float]:
    """Return the smallest and the largest ``q`` of a model with this drop."""
    return max(0.0, -drop), (1 - drop) / 2


def _score(total: int, regressed: int, improved: int, drop: float) -> float:
    """Return Tango's score statistic: how many standard errors the observed drop is above ``drop``, with the
    standard error under this drop. It falls with improved cases and rises with regressed cases."""
    unchanged = 1 - drop
    linear = (regressed + improved) * unchanged - 2 * drop * (total - regressed)
    square = linear * linear + 8 * total * improved * drop * unchanged
    improving = (linear + sqrt(square)) / (4 * total) if square > 0 else 0.0
    if improving < 0 or improving < -drop:
        improving = max(0.0, -drop)
    variance = 2 * improving + drop * unchanged
    distance = regressed - improved - total * drop
    if variance <= _ROUNDING:
        return 0.0 if abs(distance) <= _ROUNDING else inf if distance > 0 else -inf
    return distance / sqrt(total * variance)


def _better_results(total: int, score: float, drop: float) -> Results:
    """Return the results with at most this score.

    If the score is negative, one more improved case allows at most one more regressed case: with one more of
    both, the drop is the same, and its standard error is larger, so a negative score gets larger too.
    """
    most, regressed, highest = [], -1, score + _ROUNDING
    for improved in range(total + 1):
        while regressed < total - improved and _score(total, regressed + 1, improved, drop) <= highest:
            regressed += 1
            if improved and highest < 0:
                break
        most.append(regressed)
        if regressed == total - improved:
            break
    return most


def _is_above(limit: float, total: int, results: Results, regressing: float, improving: float) -> bool:
    """Return whether the probability of ``results`` is above ``limit``, if a case regresses with the
    probability ``regressing`` and improves with the probability ``improving``.

    The number of improved cases is binomially distributed, and so is that of regressed cases among the
    others. The sum begins at the largest number of improved cases that is not negligible, and both
    distributions are carried along to each smaller number. It ends as soon as the rest cannot change the
    answer: with fewer improved cases, the probability that few enough cases regressed is smaller.
    """
    improving = min(max(improving, _LEAST), _MOST)
    share = min(max(regressing / (1 - improving), _LEAST), _MOST)
    odds, odds_of_others = (1 - improving) / improving, (1 - share) / share
    improved = _most_improved(total, improving)
    weight, found = binomial(improved, total, improving), 0.0
    while improved >= len(results):
        found += weight
        weight *= improved / (total - improved + 1) * odds
        improved -= 1
    others, most = total - improved, results[improved]
    if most < 0:
        return False
    # The probability of exactly, and of at most, the number ``most`` of regressed cases.
    here = binomial(most, others, share)
    within = at_most(most, others, share, exactly=here)
    rest = 1 - found - weight
    found += weight * within
    while improved and found <= limit < found + rest * within:
        here = here or binomial(most, others, share)
        weight *= improved / (total - improved + 1) * odds
        improved -= 1
        others += 1
        within -= share * here
        here *= others / (others - most) * (1 - share)
        while most > results[improved]:
            within -= here
            here *= most / (others - most + 1) * odds_of_others
            most -= 1
        if most < 0:
            break
        found += weight * within
        rest -= weight
    return found > limit


def _most_improved(total: int, improving: float) -> int:
    """Return a number of improved cases that is exceeded with a negligible probability. The first bound is
    Bernstein's inequality. The second one is a Newton step of Chernoff's bound, which is convex."""
    half, mean = _EXPONENT / 3, total * improving
    number = mean + half + sqrt(half * half + 2 * _EXPONENT * mean * (1 - improving))
    return min(total, floor(number), floor((number + _EXPONENT - mean) / log(number / mean)))
