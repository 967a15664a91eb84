"""Check for splits without rows."""

from tunegate_trainer.checks.finding import CheckContext, Finding, Severity
from tunegate_trainer.checks.rows import SplitRows
from tunegate_trainer.data.split import SIDES

NAME = "empty_splits"


def run(rows: SplitRows, context: CheckContext) -> list[Finding]:
    """Refuse data if its train, dev or test split is empty."""
    fraction = context.request.spec.data.held_out.fraction
    return [
        Finding(
            check=NAME,
            severity=Severity.ERROR,
            message=f"the {side} split is empty: heldOut.fraction {fraction} of {rows.total} rows",
            count=1,
            remedy="give more rows, or a finer heldOut.groupBy"
            if side == "train"
            else "give more rows, a larger fraction, or a finer heldOut.groupBy",
        )
        for side in SIDES
        if not rows.rows.side(side)
    ]
