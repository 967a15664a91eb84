"""Check for splits without rows."""

from tunegate_trainer.checks.finding import CheckContext, Finding, Severity
from tunegate_trainer.checks.rows import SplitRows
from tunegate_trainer.data.split import SIDES

NAME = "empty_splits"


def run(rows: SplitRows, context: CheckContext) -> list[Finding]:
    """Refuse the data if the train, dev or test split has no rows."""
    fraction = context.request.spec.data.held_out.fraction
    return [
        Finding(
            check=NAME,
            severity=Severity.ERROR,
            message=f"data.train: the {side} split is empty with {rows.total} rows and heldOut.fraction "
            f"{fraction}",
            count=1,
            remedy="add rows, or set heldOut.groupBy to a field with more values"
            if side == "train"
            else "add rows, raise heldOut.fraction, or set heldOut.groupBy to a field with more values",
        )
        for side in SIDES
        if not rows.rows.side(side)
    ]
