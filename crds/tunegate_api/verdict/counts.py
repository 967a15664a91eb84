"""Count-based task metrics: they are computed from an entry per case, instead of one pass or fail per case.

The entry of a case is either two counts, ``3/5``, or a classification, ``2>0``: the index of the expected
label, and the index of the predicted label. The value of a metric on all cases is an exact fraction, which is
compared with the threshold:

* *Micro*: the micro-averaged F1 score of classifications. Each case has one label, so this value equals the
  share of cases whose label was predicted: a wrong prediction is one false positive and one false negative.
* *Macro*: the mean of the F1 scores of the labels, ``2 tp / (2 tp + fp + fn)``, where ``tp``, ``fp`` and
  ``fn`` are the true positives, false positives and false negatives of a label. The labels are those that at
  least one case of the set expects. For both averages, see Manning, Raghavan and Schütze, Introduction to
  Information Retrieval, 2008, section 13.6.
* *Mean*: the mean of the values of the cases, which are given as two counts, a numerator and a denominator.
  For ROUGE-L, the numerator of a case is twice the length of the longest common subsequence, and the
  denominator is the sum of both lengths. So the value is the mean of the F-measures (Lin, ROUGE: A Package
  for Automatic Evaluation of Summaries, 2004).

As with a pass rate, the value itself is compared with the threshold, without a confidence interval. As in
:mod:`tunegate_api.verdict.golden`, truncated outputs do not count as good: the numerator of such an output
is 0, and its predicted label is none. A case whose entry is invalid was not measured.

Counts are compared with the threshold, and between checkpoints by :mod:`tunegate_api.verdict.stop_rule`. To
compare a model with baselines, golden cases are used, which pass or fail. A fair comparison of two values
would need a paired bootstrap, which resamples the cases of both models together. The entry of each case is
kept for such a test (Koehn, Statistical Significance Tests for Machine Translation Evaluation, 2004).
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from math import lcm

from tunegate_api.verdict.intervals import Interval, wilson
from tunegate_api.verdict.outcomes import (
    FAIL,
    MAX_CASES,
    PASS,
    TRUNCATED,
    CaseSet,
    passed_count,
    rate_text,
)

MAX_COUNT = 99_999
"""Maximum of each count. With this limit, the counts of all cases fit in one ConfigMap."""
COUNTS_LENGTH = len(f"{MAX_COUNT}/{MAX_COUNT} ")
"""Maximum length of the two counts of a case as text, including the space after them, in characters."""
LABELS_LENGTH = len(f"{MAX_CASES - 1}>{MAX_CASES - 1} ")
"""Maximum length of the classification of a case as text, including the space after it, in characters."""
NOT_COUNTED = "-"
"""The text that stands for the entry of a case that was not measured."""
NO_LABEL = "-"
"""The text that stands for the index of a prediction that is none of the labels."""


class Aggregate(StrEnum):
    """How the value of a metric is computed from the entries of all cases."""

    MICRO = "Micro"
    MACRO = "Macro"
    MEAN = "Mean"

    @property
    def is_of_labels(self) -> bool:
        """Whether the entries are classifications. Otherwise they are counts."""
        return self is not Aggregate.MEAN


COUNTED: Mapping[str, Aggregate] = {
    "F1": Aggregate.MICRO,
    "RougeL": Aggregate.MEAN,
    "Custom": Aggregate.MEAN,
}
"""The types of count-based task metrics, with their default aggregates. All others are pass rates."""


@dataclass(frozen=True)
class Counts:
    """The numerator and the denominator of one case. Their ratio is the value of the case."""

    numerator: int
    denominator: int

    def __str__(self) -> str:
        return f"{self.numerator}/{self.denominator}"

    def is_valid(self) -> bool:
        are_whole = type(self.numerator) is int and type(self.denominator) is int
        return are_whole and 0 <= self.numerator <= self.denominator <= MAX_COUNT and self.denominator >= 1


@dataclass(frozen=True)
class Classification:
    """The labels of one case, as indices into the sorted labels that the cases of the set expect."""

    expected: int
    predicted: int | None
    """None if the output is none of the labels."""

    def __str__(self) -> str:
        return f"{self.expected}>{NO_LABEL if self.predicted is None else self.predicted}"

    def is_valid(self) -> bool:
        return all(0 <= each < MAX_CASES for each in (self.expected, self.predicted or 0))


Entry = Counts | Classification
"""The entry of one case."""


def aggregate_of(metric_type: str, average: str | None) -> Aggregate | None:
    """Return how the value of a task metric is computed. None for a pass rate, which needs no entries."""
    return Aggregate(average) if average else COUNTED.get(metric_type)


def is_valid_for(aggregate: Aggregate, entry: Entry | None) -> bool:
    """Return whether ``entry`` can be part of a metric with this ``aggregate``."""
    kind = Classification if aggregate.is_of_labels else Counts
    return isinstance(entry, kind) and entry.is_valid()


def outcome_length(aggregate: Aggregate | None) -> int:
    """Return the maximum length of one case's results for a task metric, in characters. ``aggregate`` is None
    for a pass rate."""
    if aggregate is None:
        return 1
    return 1 + (LABELS_LENGTH if aggregate.is_of_labels else COUNTS_LENGTH)


@dataclass(frozen=True)
class LabelScore:
    """The F1 score of one label."""

    label: int
    """Index of the label."""
    true_positives: int
    support: int
    """Number of cases that expect the label."""
    predicted: int
    """Number of cases for which the label was predicted."""

    @property
    def f1(self) -> Fraction:
        """``2 tp / (2 tp + fp + fn)``. The denominator is the number of cases that expect the label, plus the
        number of cases for which it was predicted."""
        return Fraction(2 * self.true_positives, self.support + self.predicted)


@dataclass(frozen=True)
class CountedMetric:
    """The measured entries of a count-based metric on a set of cases."""

    aggregate: Aggregate
    total: int
    """Number of cases in the set."""
    reported: int
    """Number of cases for which entries or outcomes were reported."""
    measured: tuple[Entry, ...]
    """The entries of the cases whose outcome is known and whose entry is valid."""

    @property
    def is_complete(self) -> bool:
        """Whether all cases were measured."""
        return len(self.measured) == self.total >= self.reported

    @property
    def value(self) -> Fraction:
        """The exact value of the metric. 0 if it cannot be computed, for example because a case was not
        measured."""
        return _value(self.aggregate, self.measured) if self.is_complete and self.measured else Fraction(0)

    @property
    def highest(self) -> Fraction:
        """A value that the metric cannot exceed, whatever the entries of the cases that were not measured
        are. It is :attr:`value` if all cases were measured."""
        if not self.total or self.reported > self.total:
            return Fraction(1)
        return _best(self.aggregate, self.measured, self.total - len(self.measured))

    @property
    def missing(self) -> int:
        return self.total - len(self.measured)

    @property
    def text(self) -> str:
        """The value with how it was computed, for messages. Empty if no case was measured."""
        if not self.measured:
            return ""
        value, rows = _value(self.aggregate, self.measured), len(self.measured)
        if self.aggregate is Aggregate.MICRO:
            return f"{_right(self.measured)}/{rows} = {rate_text(value)} over {rows} rows"
        if self.aggregate is Aggregate.MACRO:
            labels = len(label_scores(self.measured))
            return f"{rate_text(value)}, the mean of {labels} labels, over {rows} rows"
        return f"{rate_text(value * rows)}/{rows} = {rate_text(value)} over {rows} rows"


def counted_metric(rows: CaseSet, outcomes: str, entries: str, aggregate: Aggregate) -> CountedMetric:
    """Parse the entries of a count-based metric.

    ``outcomes`` has one letter per case. ``entries`` has one entry per case, separated by spaces, with
    ``NOT_COUNTED`` for a case that was not measured.
    """
    of_labels = aggregate.is_of_labels
    texts = entries.split(" ") if entries else []
    found = (_read(of_labels, outcome, text) for outcome, text in zip(outcomes, texts, strict=False))
    measured = tuple(each for each in found if each is not None and each.is_valid())
    reported = max(len(texts), len(outcomes))
    return CountedMetric(aggregate, len(rows.ids), reported, measured)


def label_scores(entries: Sequence[Entry]) -> list[LabelScore]:
    """Return the F1 score of each label that at least one classification expects, in the order of labels."""
    pairs = Counter((e.expected, e.predicted) for e in entries if isinstance(e, Classification))
    support, predicted = Counter[int](), Counter[int | None]()
    for (expected, guess), count in pairs.items():
        support[expected] += count
        predicted[guess] += count
    return [
        LabelScore(label, pairs[label, label], support[label], predicted[label]) for label in sorted(support)
    ]


_COUNTS = re.compile(r"([0-9]{1,5})/([0-9]{1,5})")
_CLASSIFICATION = re.compile(rf"([0-9]{{1,3}})>([0-9]{{1,3}}|{NO_LABEL})")


def _read(of_labels: bool, outcome: str, text: str) -> Entry | None:
    """Return the entry of one case, in which a truncated output is not good. Returns None if the case was not
    measured, or if ``text`` is not an entry of this kind."""
    found = (_CLASSIFICATION if of_labels else _COUNTS).fullmatch(text)
    if outcome not in (PASS, FAIL, TRUNCATED) or found is None:
        return None
    is_cut = outcome == TRUNCATED
    if of_labels:
        is_label = found[2] != NO_LABEL and not is_cut
        return Classification(int(found[1]), int(found[2]) if is_label else None)
    counts = Counts(int(found[1]), int(found[2]))
    return replace(counts, numerator=0) if is_cut and counts.is_valid() else counts


def _right(entries: Sequence[Entry]) -> int:
    return sum(isinstance(e, Classification) and e.expected == e.predicted for e in entries)


def _value(aggregate: Aggregate, entries: Sequence[Entry]) -> Fraction:
    """Return the value for these entries, of which there is at least one."""
    if aggregate is Aggregate.MICRO:
        return Fraction(_right(entries), len(entries))
    if aggregate is Aggregate.MACRO:
        return _mean([score.f1 for score in label_scores(entries)])
    return _mean([Fraction(e.numerator, e.denominator) for e in entries if isinstance(e, Counts)])


def _best(aggregate: Aggregate, entries: Sequence[Entry], missing: int) -> Fraction:
    """Return a value that the metric cannot exceed, whatever the entries of ``missing`` further cases are.

    For Macro, each label can gain at most ``missing`` true positives, and the missing cases can add at most
    as many labels with an F1 score of 1. For the other aggregates, the best case has the value 1.
    """
    if aggregate is Aggregate.MACRO:
        known = [
            Fraction(2 * (s.true_positives + missing), s.support + s.predicted + 2 * missing)
            for s in label_scores(entries)
        ]
        return _mean([*known, *[Fraction(1)] * missing])
    measured = _value(aggregate, entries) * len(entries) if entries else Fraction(0)
    return (measured + missing) / (len(entries) + missing)


def _mean(values: Sequence[Fraction]) -> Fraction:
    # One common denominator is a thousand times faster than adding fractions one by one.
    common = lcm(*(value.denominator for value in values))
    total = sum(value.numerator * (common // value.denominator) for value in values)
    return Fraction(total, common * len(values))


def share_interval(rows: CaseSet, outcomes: str, counted: CountedMetric | None) -> Interval | None:
    """Return the confidence interval of a metric that is a share of ``rows``. Returns None for other values,
    for an empty set, and if a row was not measured."""
    total, measured = len(rows.ids), {PASS, FAIL, TRUNCATED}
    if counted:
        passed = int(counted.value * total)
        is_share = counted.is_complete and counted.aggregate is Aggregate.MICRO
    else:
        passed = passed_count(outcomes)
        is_share = len(outcomes) == total and set(outcomes) <= measured
    return wilson(passed, total) if total and is_share else None
