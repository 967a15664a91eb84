"""Confidence intervals of count-based task metrics, by a bootstrap over the cases."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from tunegate_api.judging.counts import Aggregate, Classification, CountedMetric, Counts, Entry
from tunegate_api.judging.intervals import CONFIDENCE, Interval
from tunegate_api.judging.judgement import TaskJudgement

RESAMPLES = 2000
"""The number of bootstrap samples."""
SEED = 0
"""The seed of the bootstrap, so that the same cases always have the same interval."""
_BATCH = 200
"""The number of bootstrap samples that are computed at a time, which limits the memory to a few MB."""

Draws = np.ndarray[Any, np.dtype[np.int64]]
"""How often each entry was drawn in each bootstrap sample."""


def task_intervals(task: TaskJudgement) -> tuple[Interval | None, Interval | None]:
    """Return the confidence intervals of a task metric for the model and for the base model. An interval is
    None if a case was not measured, or if there are no cases."""
    if task.interval is not None:
        return task.interval, task.base_interval
    return _of_counts(task.counted), _of_counts(task.base_counted)


def bootstrap(aggregate: Aggregate, entries: Sequence[Entry]) -> Interval:
    """Return the percentile interval of a Mean or Macro metric (Efron, Bootstrap Methods, 1979).

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


def _of_counts(counted: CountedMetric | None) -> Interval | None:
    if counted is None or not counted.is_complete or not counted.measured:
        return None
    return bootstrap(counted.aggregate, counted.measured)


def _values(aggregate: Aggregate, entries: Sequence[Entry], draws: Draws) -> np.ndarray[Any, Any]:
    """Return the value of the metric in each bootstrap sample."""
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
