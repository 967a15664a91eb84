"""Decide whether the answers of rows are labels, as in a classification task, and count the labels, for all
rows and for each group."""

from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from fractions import Fraction

from tunegate_api.verdict.outcomes import MAX_LABELS
from tunegate_trainer.data.split import normalize
from tunegate_trainer.data.usable import UsableRow
from tunegate_trainer.tokens.rows import Row

MAX_WORDS = 5
MAX_CHARACTERS = 60
"""Maximum length of a label."""
MIN_ROWS_PER_LABEL = 3
MIN_SHARE = Fraction(95, 100)
"""Minimum share of rows whose answer is in at least ``MIN_ROWS_PER_LABEL`` rows. The other rows may have any
answer."""
MIN_ROWS = 10
_MAX_COUNTED = 10_000
"""With more different short answers than this, they are not labels."""


class LabelCounter:
    """Counts the labels of rows, which are added one at a time."""

    def __init__(self) -> None:
        self.rows = 0
        self._counts: Counter[str] = Counter()
        """The number of rows of each normalized short answer."""
        self._written: dict[str, str] = {}
        """How the first row with a short answer writes it."""

    def add(self, row: Row) -> None:
        self.rows += 1
        text = label_of(row)
        if text is None or len(self._counts) > _MAX_COUNTED:
            return
        key = normalize(text)
        self._counts[key] += 1
        self._written.setdefault(key, text)

    def labels(self) -> Counter[str] | None:
        """Return the number of rows of each label, or None if the answers are not labels.

        A label is an answer in one line, of at most 5 words and 60 characters, and without tool calls. Case
        and white space do not distinguish labels. The answers are labels if there are at least 10 rows, and
        if at least 95 % of them have one of at most ``MAX_LABELS`` labels that at least 3 rows have. Rarer
        labels are counted too.
        """
        frequent = [count for count in self._counts.values() if count >= MIN_ROWS_PER_LABEL]
        if (
            self.rows < MIN_ROWS
            or len(self._counts) > _MAX_COUNTED
            or len(frequent) > MAX_LABELS
            or sum(frequent) < MIN_SHARE * self.rows
        ):
            return None
        return Counter({self._written[key]: count for key, count in self._counts.items()})


def count_labels(rows: Iterable[Row]) -> Counter[str] | None:
    """Return the number of rows of each label, see :meth:`LabelCounter.labels`."""
    counter = LabelCounter()
    for row in rows:
        counter.add(row)
    return counter.labels()


def label_of(row: Row) -> str | None:
    """Return the answer of a row without white space around it, or None if it cannot be a label."""
    text = row.completion.strip()
    if not text or row.tool_calls or len(text) > MAX_CHARACTERS or "\n" in text:
        return None
    return text if len(text.split()) <= MAX_WORDS else None


def label_strata(rows: Sequence[UsableRow[Row]], labels: Collection[str] | None) -> dict[str, str]:
    """Return the most frequent label of each group of rows. ``labels`` has all labels. The result is empty if
    it is None, because the answers are not labels."""
    if labels is None:
        return {}
    names = list({normalize(label): None for label in labels})
    number_of = {name: number for number, name in enumerate(names)}
    label_of_row = array("i", (_number(measured, number_of) for measured in rows))
    strata: dict[str, str] = {}
    several: dict[str, Counter[str]] = {}  # few groups: a counter of each of a million groups needs 250 MB
    for measured, number in zip(rows, label_of_row, strict=True):
        if number >= 0 and strata.setdefault(measured.group, names[number]) != names[number]:
            several[measured.group] = Counter()
    for measured, number in zip(rows, label_of_row, strict=True):
        if number >= 0 and measured.group in several:
            several[measured.group][names[number]] += 1
    for group, counts in several.items():
        strata[group] = min(counts, key=lambda label: (-counts[label], label))
    return strata


def _number(measured: UsableRow[Row], number_of: Mapping[str, int]) -> int:
    """Return the number of the row's label, or -1 if its answer is no label."""
    label = label_of(measured.labelled.row)
    return -1 if label is None else number_of.get(normalize(label), -1)
