"""The strata by which rows are held out: in a classification task, the rows with the same label."""

from array import array
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from tunegate_trainer.data.labels import label_of
from tunegate_trainer.data.split import normalize
from tunegate_trainer.data.usable import UsableRow
from tunegate_trainer.tokens.rows import Row


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
