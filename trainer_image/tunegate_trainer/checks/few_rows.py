"""Check for fewer training rows than the goal needs. ``data.sizePolicy`` is the policy of this check."""

from collections.abc import Iterator

from tunegate_api.data_sizes import MINIMUM_ROWS
from tunegate_trainer.checks.finding import CheckContext, Finding
from tunegate_trainer.checks.rows import SplitRows
from tunegate_trainer.process.errors import TooFewRowsError

NAME = "few_rows"


def run(rows: SplitRows, context: CheckContext) -> Iterator[Finding]:
    """Refuse data with fewer training rows than ``data.goal`` needs. If no stage trains on rows, the training
    pairs are counted instead."""
    spec = context.request.spec
    learns_rows = any(stage.method == "SFT" for stage in spec.stages)
    found, what = (len(rows.rows.train), "rows") if learns_rows else (len(rows.pairs.train), "pairs")
    minimum = MINIMUM_ROWS[spec.data.goal]
    if found >= minimum:
        return
    yield Finding(
        message=f"data has {found} training {what}, but data.goal {spec.data.goal} needs at least {minimum}",
        count=minimum - found,
        remedy=f"add {what}, or set data.sizePolicy: Warn to train anyway",
        error=TooFewRowsError,
    )
