"""Check for production inputs that cannot be parsed, or that the model's chat template refuses."""

from collections.abc import Iterator

from tunegate_trainer.checks.finding import (
    DATA_REPORT,
    SHOWN_EXAMPLES,
    CheckContext,
    Finding,
    listed,
)
from tunegate_trainer.data.production import Production

NAME = "bad_inputs"


def run(rows: Production, _context: CheckContext) -> Iterator[Finding]:
    """Refuse a production sample that has no inputs or too many bad rows."""
    if not rows.bad and rows.inputs:
        return
    if not rows.bad:
        yield Finding(
            message=f"{rows.field} has no rows",
            count=1,
            remedy="write one production input per line, or leave the source out",
        )
        return
    examples = [str(problem) for problem in rows.bad]
    has = "1 bad row" if len(rows.bad) == 1 else f"{len(rows.bad)} bad rows"
    yield Finding(
        message=f"{rows.field} has {has}: {listed(examples)}",
        count=len(rows.bad),
        share=rows.bad_share,
        examples=examples[:SHOWN_EXAMPLES],
        remedy="correct or remove these rows: a row is a string, or has a prompt or a chat; set "
        "columns.prompt of the source if another field has the prompt; "
        f"{DATA_REPORT} lists all bad rows",
    )
