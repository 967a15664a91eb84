"""Check for too few preference pairs to train on or to measure a task metric with."""

from collections.abc import Iterator

from tunegate_trainer.checks.finding import CheckContext, Finding
from tunegate_trainer.data.split import SIDES, Split
from tunegate_trainer.data.usable import UsableRow
from tunegate_trainer.tokens.rows import PREFERENCE, Pair

NAME = "held_out_pairs"


def run(rows: Split[UsableRow[Pair]], context: CheckContext) -> Iterator[Finding]:
    """Refuse pairs if all are held out, or if the task metric on pairs has no dev or no test pairs."""
    total = sum(len(rows.side(side)) for side in SIDES)
    if not rows.train:
        held_out = f"all {total} pairs are held out" if total else "earlier jobs have held out all pairs"
        yield Finding(
            message=f"{held_out}, so no pair is left to train on",
            count=max(1, total),
            remedy="add pairs with other prompts",
        )
        return
    names = [metric.name for metric in context.request.spec.task_metrics if metric.type == PREFERENCE]
    if not names or (rows.dev and rows.test):
        return
    yield Finding(
        message=f"{len(rows.dev)} of {total} pairs are held out as dev and "
        f"{len(rows.test)} as test, but the task metric {names[0]} needs dev pairs and test pairs",
        count=total,
        remedy="add pairs, or raise heldOut.fraction",
    )
