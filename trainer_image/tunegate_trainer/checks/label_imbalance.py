"""Check whether almost all rows have the same label, if the completions are labels."""

from collections.abc import Iterator
from fractions import Fraction

from tunegate_trainer.checks.finding import SHOWN_EXAMPLES, CheckContext, Finding, listed
from tunegate_trainer.checks.rows import UsableRows
from tunegate_trainer.data.labels import MIN_ROWS_PER_LABEL, label_of
from tunegate_trainer.data.split import normalize

NAME = "label_imbalance"
FEW_ROWS = 5
"""A label with fewer rows is listed, because a model can hardly learn it. Answers that are in fewer rows than
``MIN_ROWS_PER_LABEL`` are not listed: they are rather mistakes than labels."""


def run(rows: UsableRows, context: CheckContext) -> Iterator[Finding]:
    """Report the most frequent label if its share is above the limit. The data is then balanced badly: a
    model that always answers with this label is right in almost all rows."""
    counted = rows.labels
    if counted is None:
        return
    (label, count), total = counted.most_common(1)[0], len(rows.rows)
    share = Fraction(count, total)
    if share <= context.setting(NAME).limit:
        return
    frequent = [(name, found) for name, found in counted.most_common() if found >= MIN_ROWS_PER_LABEL]
    few = [f"{name!r} ({found})" for name, found in sorted(frequent) if found < FEW_ROWS]
    more = f"; labels with fewer than {FEW_ROWS} rows: {listed(few)}" if few else ""
    yield Finding(
        message=f"{count} of {total} rows ({float(share):.1%}) have the label {label!r}{more}",
        count=count,
        share=share,
        examples=_examples(rows, label),
        remedy="add rows with the other labels, or remove rows with this one",
        report={"labels": [{"label": name, "rows": found} for name, found in frequent]},
    )


def _examples(rows: UsableRows, label: str) -> list[str]:
    """Return the first rows with another label, because rows with the frequent one are everywhere."""
    found: list[str] = []
    for measured in rows.rows:
        other = label_of(measured.labelled.row)
        if other is not None and normalize(other) != normalize(label):
            found.append(f"{measured.labelled.place} has the label {other!r}")
            if len(found) == SHOWN_EXAMPLES:
                break
    return found
