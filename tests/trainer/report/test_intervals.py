"""Bootstrap intervals of count-based task metrics."""

import numpy as np
import pytest

from tunegate_api.verdict.counts import Aggregate, Classification, Counts, Entry, counted_metric
from tunegate_api.verdict.outcomes import CaseSet
from tunegate_trainer.report.intervals import bootstrap, interval_of

MEANS: list[Entry] = [Counts(i % 11, 10) for i in range(110)]
LABELS: list[Entry] = [
    *[Classification(0, 0)] * 60,
    *[Classification(0, 1)] * 10,
    *[Classification(1, 1)] * 20,
    *[Classification(1, None)] * 10,
]


def value(aggregate: Aggregate, entries: list[Entry]) -> float:
    rows = CaseSet(sha256="0", ids=[str(i) for i in range(len(entries))])
    text = " ".join(map(str, entries))
    return float(counted_metric(rows, "p" * len(entries), text, aggregate).value)


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


@pytest.mark.parametrize(
    ("entry", "rows", "expected"),
    [
        (Counts(1, 1), 20, "0.83 to 1.00"),
        (Counts(0, 1), 20, "0.00 to 0.17"),
        (Counts(1, 2), 20, "0.42 to 0.58"),
        (Counts(1, 4), 500, "0.25 to 0.26"),
        (Counts(1, 1), 1, "0.03 to 1.00"),
    ],
)
def test_interval_of_equal_means_covers_values_of_unseen_rows(entry, rows, expected):
    from scipy.stats import binomtest

    entries: list[Entry] = [entry] * rows
    found = interval_of(Aggregate.MEAN, entries)
    other = binomtest(0, rows).proportion_ci(method="exact").high
    least = value(Aggregate.MEAN, entries) * (1 - other)
    assert (found.low, found.high) == pytest.approx((least, least + other))
    assert str(found) == expected


def test_interval_of_different_counts_with_equal_value_has_width():
    mixed: list[Entry] = [Counts(1, 2), Counts(2, 4)] * 10
    assert interval_of(Aggregate.MEAN, mixed) == interval_of(Aggregate.MEAN, [Counts(1, 2)] * 20)


@pytest.mark.parametrize("rows", [5, 20, 100])
def test_interval_of_equal_means_errs_in_at_most_5_percent(rows):
    """Rows have the value 1, and a share of them 0. The interval is wrong if it excludes the true mean."""
    for percent in range(1, 100):
        mean = percent / 100
        found = interval_of(Aggregate.MEAN, [Counts(1, 1)] * rows)
        assert found.low <= mean or mean**rows <= 0.025


@pytest.mark.parametrize(
    "entries",
    [
        [Classification(0, 0)] * 12 + [Classification(1, 1)] * 8,
        [Classification(0, None)] * 12 + [Classification(1, None)] * 8,
        [Classification(0, 0)] * 12 + [Classification(1, None)] * 8,
    ],
    ids=["all right", "all wrong", "one label right"],
)
def test_macro_f1_without_variation_has_no_interval_and_a_reason(entries):
    assert interval_of(Aggregate.MACRO, entries) == "no interval: all samples of the rows have this value"


@pytest.mark.parametrize("rows", [10, 15])
def test_bootstrap_of_few_rows_covers_about_90_of_100_samples(rows):
    random, covered = np.random.default_rng(1), 0
    for _ in range(300):
        entries = [Counts(int(value), 10) for value in random.binomial(10, random.choice([0.5, 0.9], rows))]
        found = bootstrap(Aggregate.MEAN, entries)
        covered += found.low <= 0.7 <= found.high
    assert 0.85 <= covered / 300 <= 0.94


def test_values_that_differ_have_the_interval_of_the_bootstrap():
    for aggregate, entries in ((Aggregate.MEAN, MEANS), (Aggregate.MACRO, LABELS)):
        assert interval_of(aggregate, entries) == bootstrap(aggregate, entries)
