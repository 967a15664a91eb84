"""Check for a source of which no row is left to train on, whatever the policies of other checks are."""

from collections.abc import Iterator
from typing import Any

from tunegate_trainer.checks.finding import (
    DATA_REPORT,
    SHOWN_EXAMPLES,
    CheckContext,
    Finding,
    listed,
)
from tunegate_trainer.data.usable import SourceRows

NAME = "no_rows"


def run(rows: SourceRows[Any], _context: CheckContext) -> Iterator[Finding]:
    """Refuse a source that has no rows, or whose rows are all bad or too long."""
    if rows.tokenized.kept:
        return
    dropped = rows.dropped
    examples = list(map(str, dropped[:SHOWN_EXAMPLES]))
    if not dropped:
        message, remedy = f"{rows.field} has no rows", "check that uri or key names the right file"
    else:
        message = f"{rows.field}: no row is left to train on: {listed(examples, len(dropped))}"
        remedy = (
            "correct these rows, or check that uri or key names the right file; "
            f"{DATA_REPORT} lists all of them"
        )
    yield Finding(
        message=message,
        count=max(1, len(dropped)),
        examples=examples,
        remedy=remedy,
    )
