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
from math import ceil, exp, floor, inf, log, log1p, sqrt

from tunegate_api.judging.binomial import log_ways
from tunegate_api.judging.outcomes import MAX_CASES

ALPHA = 0.05
"""Largest probability with which a test errs, and so with which a bound is on the wrong side of the true
drop."""
_ROUNDING = 1e-9
"""More than the error of the sums of floating-point numbers."""
_EXPONENT = 27.5
"""Minus the logarithm of a negligible probability, 1e-12."""
_INTERVALS = 1000
"""Maximum number of intervals of ``q`` that a test looks at. With more, it would reject more drops, but never
one that must not be rejected."""
_PLACES = [(i / 24) ** 3 for i in range(25)]
"""Where in the range of ``q`` a bound is computed: more often among small values, which are common."""


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


@dataclass(frozen=True)
class Compared:
    """The pass rates of a model and a baseline."""

    label: str
    """The baseline in messages."""
    delta: Fraction
    """Difference of the measured pass rates in percentage points. It is negative if the model is worse."""
    counts: PairedCounts
    is_complete: bool
    """Whether the outcomes of all cases are known, so that ``counts`` are exact."""
    limit: Fraction
    """Limit of the drop in percentage points."""


@lru_cache(maxsize=4096)
def is_below(counts: PairedCounts, limit: Fraction) -> bool:
    """Return whether the upper 95 % bound of the drop is below ``limit``, in percentage points."""
    counts = counts.of_independent
    return _boundary(counts.total, float(limit) / 100, _rejects).is_rejected_by(counts)


def is_at_least(counts: PairedCounts, limit: Fraction) -> bool:
    """Return whether the lower 95 % bound of the drop is at or above ``limit``, in percentage points."""
    return is_below(counts.swapped, -limit)


@lru_cache(maxsize=4096)
def bounds(counts: PairedCounts, limit: Fraction) -> tuple[int, int]:
    """Return the lower and the upper 95 % bound of the drop in tenths of a percentage point, cut off.

    Each bound is on the wrong side of the true drop with a probability of at most ``ALPHA``. Both agree with
    :func:`is_below` and :func:`is_at_least`.
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
    """Return the upper bound of the drop in tenths of a percentage point, cut off: the largest drop that is
    not rejected. ``q`` has only the values at ``_PLACES``, except for the drop ``limit``."""
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
"""A set of results: for each number of changed cases, up to how many of them regressed. -1 stands for
none."""
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


def _rejects_at_places(total: int, results: Results, drop: float) -> bool:
    """Return whether a model with the true drop ``drop`` has one of ``results`` with a probability of at most
    ``ALPHA``, for the values of ``q`` at ``_PLACES``."""
    low, high = _improving(drop)
    places = (low + place * (high - low) for place in _PLACES)
    return all(_probability(total, results, q + drop, q) <= ALPHA for q in places)


def _rejects(total: int, results: Results, drop: float) -> bool:
    """Return whether a model with the true drop ``drop`` or a larger one has, for every ``q``, one of
    ``results`` with a probability of at most ``ALPHA``.

    Better results have fewer regressed or more improved cases. So within an interval of ``q`` the probability
    is at most that of the smallest ``p`` and the largest ``q`` in it. Intervals for which this is too much
    are halved. The test looks at up to ``_INTERVALS`` of them.
    """
    allowed = ALPHA - _ROUNDING
    intervals, seen = [_improving(drop)], 0
    while intervals:
        low, high = intervals.pop()
        seen += 1
        if seen > _INTERVALS:
            return False
        if _probability(total, results, low + drop, high) <= allowed:
            continue
        middle = (low + high) / 2
        if _probability(total, results, middle + drop, middle) > allowed:
            return False
        intervals += [(middle, high), (low, middle)]
    return True


def _improving(drop: float) -> tuple[float, float]:
    """Return the smallest and the largest ``q`` of a model with this drop."""
    return max(0.0, -drop), (1 - drop) / 2


def _score(total: int, regressed: int, improved: int, drop: float) -> float:
    """Return Tango's score statistic: how many standard errors the observed drop is above ``drop``, with the
    standard error under this drop. It falls with improved cases and rises with regressed cases."""
    changed = regressed + improved
    linear = changed * (1 - drop) - 2 * drop * (total - changed + improved)
    root = sqrt(max(0.0, linear * linear + 8 * total * improved * drop * (1 - drop)))
    improving = max((linear + root) / (4 * total), 0.0, -drop)
    variance = 2 * improving + drop - drop * drop
    distance = regressed - improved - total * drop
    if variance <= _ROUNDING:
        return 0.0 if abs(distance) <= _ROUNDING else inf if distance > 0 else -inf
    return distance / sqrt(total * variance)


def _better_results(total: int, score: float, drop: float) -> Results:
    """Return the results with at most this score."""
    most, regressed, highest = [], -1, score + _ROUNDING
    for changed in range(total + 1):
        if _score(total, regressed + 1, changed - regressed - 1, drop) <= highest:
            regressed += 1
        most.append(regressed)
    return most


def _probability(total: int, results: Results, regressing: float, improving: float) -> float:
    """Return the probability of ``results``, if a case regresses with the probability
    ``regressing`` and improves with the probability ``improving``.

    The number of changed cases is binomially distributed, and so is that of regressed cases among them. Both
    distributions are carried along from each number of changed cases to the next. Numbers that are further
    from the expected one than ``spread`` are left out. By Bernstein's inequality, their probability is at
    most ``2 * exp(-_EXPONENT)``.
    """
    changing = min(max(regressing + improving, 1e-300), 1 - 1e-12)
    share = min(regressing / changing, 1.0)
    half = _EXPONENT / 3
    spread = half + sqrt(half * half + 2 * _EXPONENT * total * changing * (1 - changing))
    first = max(0, ceil(total * changing - spread))
    last = min(total, floor(total * changing + spread))
    weight = exp(log_ways(total)[first] + first * log(changing) + (total - first) * log1p(-changing))
    changing_odds = changing / (1 - changing)
    improved = 1 - share
    regressed_odds = share / improved if improved else inf
    found = within = here = 0.0  # the results so far; those of this number of changed cases; the last of them
    regressed = -1
    for changed, most in enumerate(results[: last + 1]):
        if share >= 1:
            within = float(most >= changed)
        else:
            if regressed >= 0:
                within -= share * here
                here *= changed * improved / (changed - regressed)
            if most > regressed:
                regressed = most
                if regressed == 0:
                    here = improved**changed
                else:
                    here *= (changed - regressed + 1) / regressed * regressed_odds
                within += here
        if changed >= first:
            found += within * weight
            weight *= (total - changed) / (changed + 1) * changing_odds
    return found
