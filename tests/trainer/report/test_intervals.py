"""Bootstrap intervals of count-based task metrics."""

import numpy as np
import pytest

from tunegate_api.judging.counts import Aggregate, Classification, Counts, Entry, counted_metric
from tunegate_api.judging.outcomes import CaseSet
from tunegate_trainer.report.intervals import bootstrap

MEANS: list[Entry] = [Counts(i % 11, 10) for i in range(110)]
LABELS: list[Entry] = [
    *[Classification(0, 0)] * 60,
    *[Classification(0, 1)] * 10,
    *[Classification(1, 1)] * 20,
    *[Classification(1, None)] * 10,
]


def value(aggregate: Aggregate, entries: list[Entry]) -> float:
    name = "f1" if aggregate.is_of_labels else "rouge_l"
    rows = CaseSet(sha256="0", ids=[str(i) for i in range(len(entries))])
    text = " ".join(map(str, entries))
    return float(counted_metric(name, rows, "p" * len(entries), text, aggregate).value)


@pytest.mark.parametrize(("aggregate", "entries"), [(Aggregate.MEAN, MEANS), (Aggregate.MACRO, LABELS)])
def test_interval_equals_that_of_resampled_cases(aggregate, entries):
    """The reference draws cases one by one, and computes the metric as the verdict does."""
    generator = np.random.default_rng(1)
    resampled = [
        value(aggregate, [entries[i] for i in generator.integers(0, len(entries), len(entries))])
        for _ in range(1000)
    ]
    expected = np.quantile(resampled, [0.025, 0.975])
    found = bootstrap(aggregate, entries)
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.015)
    assert found.low < value(aggregate, entries) < found.high


def test_interval_of_the_same_cases_is_always_the_same():
    assert bootstrap(Aggregate.MACRO, LABELS) == bootstrap(Aggregate.MACRO, LABELS)


def test_interval_of_equal_values_has_no_width():
    assert str(bootstrap(Aggregate.MEAN, [Counts(1, 2)] * 20)) == "0.50 to 0.50"
