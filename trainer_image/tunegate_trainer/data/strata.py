"""The strata by which rows are held out: in a classification task, the rows with the same label."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from tunegate_trainer.data.labels import label_of
from tunegate_trainer.data.split import normalize
from tunegate_trainer.data.usable import Measured
from tunegate_trainer.tokens.rows import Row


def label_strata(rows: Sequence[Measured[Row]], labels: Mapping[str, int] | None) -> dict[str, str]:
    """Return the most frequent label of each group of rows. ``labels`` has the number of rows of each label.
    The result is empty if it is None, because the answers are not labels."""
    if labels is None:
        return {}
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for measured in rows:
        label = label_of(measured.labelled.row)
        if label is not None:
            found[measured.group][normalize(label)] += 1
    return {group: min(counts, key=lambda label: (-counts[label], label)) for group, counts in found.items()}
