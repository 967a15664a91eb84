"""Count-based task metrics: they are computed from two counts per case, instead of one pass or fail per case.

A case has a numerator and a denominator, ``3/5``. The value of a metric on all cases is an exact fraction,
which is compared with the threshold:

* *Micro*: the sum of the numerators divided by the sum of the denominators. For the F1 score, a case has the
  numerator ``2 tp`` and the denominator ``2 tp + fp + fn``, where ``tp``, ``fp`` and ``fn`` are its true
  positives, false positives and false negatives. So the value is micro-averaged F1 (Manning, Raghavan and
  Schütze, Introduction to Information Retrieval, 2008, section 13.6).
* *Mean*: the mean of the values of the cases. For ROUGE-L, the numerator of a case is twice the length of the
  longest common subsequence, and the denominator is the sum of both lengths. So the value is the mean of the
  F-measures (Lin, ROUGE: A Package for Automatic Evaluation of Summaries, 2004).

As with a pass rate, the value itself is compared with the threshold, without a confidence interval. As in
:mod:`tunegate_api.judging.verdict`, truncated outputs do not count as good: only the denominator of such an
output is added. If a case was not measured, or its counts are invalid, the result is *Failed* if the metric
would fail even with the best possible counts for this case, and *Error* otherwise.

Counts are only compared with the threshold. Golden cases, which pass or fail, are used to compare a model
with baselines, and a checkpoint with the best checkpoint so far. A fair comparison of two values would need a
paired bootstrap, which resamples the cases of both models together. The counts of each case are kept for such
a test (Koehn, Statistical Significance Tests for Machine Translation Evaluation, 2004).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from math import lcm

from tunegate_api.judging.verdict import (
    FAIL,
    PASS,
    TRUNCATED,
    CaseSet,
    RuleFinding,
    VerdictState,
    rate_text,
    threshold_text,
)

MAX_COUNT = 99_999
"""Maximum of each count. With this limit, the counts of all cases fit in one ConfigMap."""
COUNTS_LENGTH = len(f"{MAX_COUNT}/{MAX_COUNT} ")
"""Maximum length of the two counts of a case as text, including the space after them, in characters."""
NOT_COUNTED = "-"
"""The text that :func:`counts_text` writes for a case that was not measured."""


class Aggregate(StrEnum):
    """How the value of a metric is computed from the counts of all cases."""

    MICRO = "Micro"
    MEAN = "Mean"


COUNTED: Mapping[str, Aggregate] = {"f1": Aggregate.MICRO, "rouge_l": Aggregate.MEAN}
"""The count-based task metrics. All other task metrics are pass rates."""


@dataclass(frozen=True)
class Counts:
    """The numerator and the denominator of one case, from which a count-based task metric is computed."""

    numerator: int
    denominator: int

    def __str__(self) -> str:
        return f"{self.numerator}/{self.denominator}"

    def is_valid(self, aggregate: Aggregate) -> bool:
        """Return whether a metric with this ``aggregate`` can be computed from the counts. Mean needs a
        denominator of at least 1 in each case. With Micro, a case may have a denominator of 0."""
        least = 1 if aggregate is Aggregate.MEAN else 0
        return 0 <= self.numerator <= self.denominator <= MAX_COUNT and self.denominator >= least


def outcome_length(metric: str) -> int:
    """Return the maximum length of one case's results for a task metric, in characters."""
    return 1 + COUNTS_LENGTH if metric in COUNTED else 1


RIGHT = Counts(MAX_COUNT, MAX_COUNT)
"""The best possible counts of a case. No other counts raise a metric more."""


@dataclass(frozen=True)
class CountedMetric:
    """The measured counts of a count-based metric on a set of cases."""

    name: str
    total: int
    """Number of cases in the set."""
    entries: int
    """Number of cases for which counts or outcomes were reported."""
    measured: tuple[Counts, ...]
    """The counts of the cases whose outcome is known and whose counts are valid."""

    @property
    def value(self) -> Fraction:
        """The exact value of the metric. 0 if it cannot be computed, for example because a case was not
        measured."""
        is_complete = len(self.measured) == self.total >= self.entries
        value = _value(self.name, self.measured) if is_complete else None
        return Fraction(0) if value is None else value

    def judge(self, minimum: Fraction) -> RuleFinding:
        """Compare the value with the threshold. Without cases, the result is Inconclusive."""
        if self.entries > self.total:
            text = f"{self.name}: {self.entries} counts were reported for {self.total} held-out rows"
            return RuleFinding(self.name, VerdictState.ERROR, text)
        if self.total == 0:
            text = f"{self.name}: no held-out rows to measure on"
            return RuleFinding(self.name, VerdictState.INCONCLUSIVE, text)
        missing = self.total - len(self.measured)
        best = _value(self.name, [*self.measured, *[RIGHT] * missing])
        if best is None:
            text = f"{self.name} has no value, because all {self.total} rows have a denominator of 0"
            return RuleFinding(self.name, VerdictState.ERROR, text)
        text = f"{self._arithmetic()}, required {threshold_text(minimum)}"
        if missing:
            text = f"{text}, {missing} not measured"
        if best < minimum:
            return RuleFinding(self.name, VerdictState.FAILED, text)
        return RuleFinding(self.name, VerdictState.ERROR if missing else VerdictState.PASSED, text)

    def _arithmetic(self) -> str:
        value = _value(self.name, self.measured)
        if value is None:
            return self.name
        if COUNTED[self.name] is Aggregate.MICRO:
            parts = f"{sum(c.numerator for c in self.measured)}/{sum(c.denominator for c in self.measured)}"
        else:
            parts = f"{rate_text(value * len(self.measured))}/{len(self.measured)}"
        return f"{self.name} {parts} = {rate_text(value)} over {len(self.measured)} rows"


def counted_metric(name: str, rows: CaseSet, outcomes: str, counts: str) -> CountedMetric:
    """Parse the counts of the metric ``name``, which is in :data:`COUNTED`. ``outcomes`` has one letter per
    case. ``counts`` has one entry per case in the format of :func:`counts_text`."""
    aggregate = COUNTED[name]
    entries = counts.split(" ") if counts else []
    found = (_read(outcome, entry) for outcome, entry in zip(outcomes, entries, strict=False))
    measured = [each for each in found if each is not None and each.is_valid(aggregate)]
    return CountedMetric(name, len(rows.ids), max(len(entries), len(outcomes)), tuple(measured))


def counts_text(counts: Sequence[Counts | None]) -> str:
    """Return the counts of all cases as one string, in the format of results: ``3/5 0/4 -``. None stands for
    a case that was not measured."""
    return " ".join(NOT_COUNTED if each is None else str(each) for each in counts)


def _read(outcome: str, entry: str) -> Counts | None:
    """Return the counts of one case. The numerator of a truncated output is set to 0. Returns None if the
    case was not measured, or if ``entry`` is not two counts."""
    numerator, _, denominator = entry.partition("/")
    is_number = all(
        part.isascii() and part.isdecimal() and len(part) <= 5 for part in (numerator, denominator)
    )
    if outcome not in (PASS, FAIL, TRUNCATED) or not is_number:
        return None
    counts = Counts(int(numerator), int(denominator))
    return replace(counts, numerator=0) if outcome == TRUNCATED else counts


def _value(name: str, counts: Sequence[Counts]) -> Fraction | None:
    """Return the value of the metric ``name`` for these counts. Returns None if there are no cases, or if all
    denominators of a Micro metric are 0."""
    if COUNTED[name] is Aggregate.MICRO:
        whole = sum(c.denominator for c in counts)
        return Fraction(sum(c.numerator for c in counts), whole) if whole else None
    if not counts:
        return None
    # One common denominator is a thousand times faster than adding fractions one by one.
    common = lcm(*(c.denominator for c in counts))
    return Fraction(sum(c.numerator * (common // c.denominator) for c in counts), common * len(counts))
