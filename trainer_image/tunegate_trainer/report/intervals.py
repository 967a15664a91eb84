"""Confidence intervals of count-based task metrics, by a bootstrap over the cases.

If all cases have the same value, a bootstrap interval has no width, because each sample has this value too.
It would claim that all other cases have it, whatever the number of cases is, so it is not used then.
"""

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from tunegate_api.judging.judgement import TaskJudgement
from tunegate_api.verdict.counts import Aggregate, Classification, CountedMetric, Counts, Entry
from tunegate_api.verdict.intervals import CONFIDENCE, Interval

RESAMPLES = 2000
"""The number of bootstrap samples."""
SEED = 0
"""The seed of the bootstrap, so that the same cases always have the same interval."""
_BATCH = 200
"""The number of bootstrap samples that are computed at a time, which limits the memory to a few MB."""

_ROUNDING = 1e-9
"""More than the error of a value."""

Draws = np.ndarray[Any, np.dtype[np.int64]]
"""How often each entry was drawn in each bootstrap sample."""


Shown = Interval | str | None
"""A confidence interval, or why there is none. None if a case was not measured, or if there are no cases."""
NO_VARIATION = "no interval: all samples of the rows have this value"


def task_intervals(task: TaskJudgement) -> tuple[Shown, Shown]:
    """Return the confidence intervals of a task metric for the model and for the base model."""
    if task.interval is not None:
        return task.interval, task.base_interval
    return _of_counts(task.counted), _of_counts(task.base_counted)


def interval_of(aggregate: Aggregate, entries: Sequence[Entry]) -> Interval | str:
    """Return the confidence interval of a Mean or Macro metric, or why there is none.

    It is the bootstrap interval, if that has a width. The mean of equal values has the interval
    :func:`_of_equal_values`. Macro F1 has none: it depends on rare labels, about which the rows show little.
    """
    values = {Fraction(e.numerator, e.denominator) for e in entries if isinstance(e, Counts)}
    if aggregate is Aggregate.MEAN and len(values) == 1:
        return _of_equal_values(float(values.pop()), len(entries))
    found = bootstrap(aggregate, entries)
    return found if found.high - found.low > _ROUNDING else NO_VARIATION


def _of_equal_values(value: float, total: int) -> Interval:
    """Return the interval of the mean of ``total`` cases, which all have this value, from 0 to 1.

    A share of other cases may have other values. If it is larger than the exact upper bound for 0 of
    ``total`` cases (Clopper and Pearson, The Use of Confidence or Fiducial Limits, 1934), ``total`` cases
    include none of them with a probability of at most 2.5 %. The lower bound is the mean if they all have the
    value 0, and the upper bound is the mean if they all have the value 1.
    """
    other = 1 - ((1 - CONFIDENCE) / 2) ** (1 / total)
    low = value * (1 - other)
    return Interval(low, min(1.0, low + other))


def bootstrap(aggregate: Aggregate, entries: Sequence[Entry]) -> Interval:
    """Return the percentile interval of a Mean or Macro metric (Efron, Bootstrap Methods, 1979). With fewer
    than 20 cases, it covers the true value in about 90 of 100 samples instead of 95.

    Each bootstrap sample draws as many cases as there are, with replacement. Since equal entries are
    interchangeable, the number of times that each distinct entry is drawn has a multinomial distribution.
    """
    counted = Counter(entries)
    distinct, total = list(counted), len(entries)
    shares = np.array(list(counted.values())) / total
    generator = np.random.default_rng(SEED)
    values = np.concatenate(
        [
            _values(aggregate, distinct, generator.multinomial(total, shares, size=_BATCH))
            for _ in range(RESAMPLES // _BATCH)
        ]
    )
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def _of_counts(counted: CountedMetric | None) -> Shown:
    if counted is None or not counted.is_complete or not counted.measured:
        return None
    return interval_of(counted.aggregate, counted.measured)


def _values(aggregate: Aggregate, entries: Sequence[Entry], draws: Draws) -> np.ndarray[Any, Any]:
    if aggregate is Aggregate.MEAN:
        values = np.array([e.numerator / e.denominator for e in entries if isinstance(e, Counts)])
        means: np.ndarray[Any, Any] = draws @ values / draws.sum(axis=1)
        return means
    pairs = [e for e in entries if isinstance(e, Classification)]
    scores = np.zeros(len(draws))
    present = np.zeros(len(draws))
    for label in sorted({e.expected for e in pairs}):
        expected = draws[:, [e.expected == label for e in pairs]].sum(axis=1)
        predicted = draws[:, [e.predicted == label for e in pairs]].sum(axis=1)
        right = draws[:, [e.expected == e.predicted == label for e in pairs]].sum(axis=1)
        # A label that no case of the sample expects is left out of the mean, as in the metric itself.
        scores += np.where(expected > 0, 2 * right / np.maximum(expected + predicted, 1), 0)
        present += expected > 0
    return scores / present
