"""Too few preference pairs to train on, or to measure by."""

from tunegate_trainer.checks.finding import CheckContext, Finding, Severity
from tunegate_trainer.data.split import SIDES, Split
from tunegate_trainer.data.usable import Measured
from tunegate_trainer.tokens.rows import PREFERENCE, Pair

NAME = "held_out_pairs"


def run(rows: Split[Measured[Pair]], context: CheckContext) -> list[Finding]:
    """Refuse pairs of which none is trained on, or of which too few are held out for a task metric."""
    total = sum(len(rows.side(side)) for side in SIDES)
    if not rows.train:
        return [
            Finding(
                check=NAME,
                severity=Severity.ERROR,
                message=f"data.preference: all {total} pairs are held out, so none is left to train on",
                count=total,
                remedy="give pairs with other prompts",
            )
        ]
    metrics = {metric.name for metric in context.request.spec.task_metrics}
    if PREFERENCE not in metrics or (rows.dev and rows.test):
        return []
    return [
        Finding(
            check=NAME,
            severity=Severity.ERROR,
            message=f"data.preference: {len(rows.dev)} of {total} pairs are held out as dev and "
            f"{len(rows.test)} as test, but {PREFERENCE} needs pairs in both",
            count=total,
            remedy="give more pairs, or a larger heldOut.fraction",
        )
    ]
