"""Check for many training rows without a review of a sample. ``data.sizePolicy`` is the policy of this
check."""

from collections.abc import Iterator

from tunegate_api.data_sizes import MAX_UNREVIEWED_ROWS
from tunegate_trainer.checks.finding import CheckContext, Finding
from tunegate_trainer.checks.rows import SplitRows

NAME = "unreviewed_rows"


def run(rows: SplitRows, context: CheckContext) -> Iterator[Finding]:
    """Refuse more than ``MAX_UNREVIEWED_ROWS`` training rows without ``data.quality``. Pairs are not counted,
    because a review sample has no pairs."""
    spec, found = context.request.spec, len(rows.rows.train) + rows.mixed
    learns_rows = any(stage.method == "SFT" for stage in spec.stages)
    if spec.data.quality or not learns_rows or found <= MAX_UNREVIEWED_ROWS:
        return
    yield Finding(
        message=f"data has {found:,} training rows, but no review of a sample: data.quality is required "
        f"above {MAX_UNREVIEWED_ROWS:,} rows",
        count=found,
        remedy="add `quality: {review: Manual}` to spec.data, so that people score a sample of the rows "
        "before training, see docs/review.md; or set data.sizePolicy: Warn to train without a review",
    )
