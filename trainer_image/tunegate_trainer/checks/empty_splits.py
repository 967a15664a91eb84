"""Check for splits without rows."""

from collections.abc import Iterator

from tunegate_trainer.checks.finding import CheckContext, Finding
from tunegate_trainer.checks.rows import SplitRows
from tunegate_trainer.data.split import SIDES

NAME = "empty_splits"


def run(rows: SplitRows, context: CheckContext) -> Iterator[Finding]:
    """Refuse the data if the train, dev or test split has no rows."""
    empty = [side for side in SIDES if not rows.rows.side(side)]
    if not empty:
        return
    data = context.request.spec.data
    splits = f"the {empty[0]} split is" if len(empty) == 1 else f"the {' and '.join(empty)} splits are"
    more = "" if empty == ["train"] else ", raise heldOut.fraction,"
    yield Finding(
        message=f"{data.train.field}: {splits} empty with {rows.total} rows and heldOut.fraction "
        f"{data.held_out.fraction}",
        count=len(empty),
        remedy=f"add rows{more or ','} or set heldOut.groupBy to a field with more values",
    )
