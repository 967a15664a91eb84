"""Check for rows of a source that cannot be parsed, or that the model's chat template refuses."""

from collections.abc import Iterator, Sequence
from typing import Any

from tunegate_trainer.checks.finding import (
    DATA_REPORT,
    SHOWN_EXAMPLES,
    CheckContext,
    Finding,
    listed,
)
from tunegate_trainer.data.parse import RowProblem, in_order
from tunegate_trainer.data.usable import SourceRows

NAME = "bad_rows"


def run(rows: SourceRows[Any], context: CheckContext) -> Iterator[Finding]:
    """Refuse a source that has too many bad rows. Rows are tokenized only if few enough rows have other
    faults."""
    parsed = rows.parsed
    setting = context.setting(NAME)
    if parsed.bad and setting.policy == "Enforce" and rows.share(parsed.bad) > setting.limit:
        hint = f"correct or remove these rows; {DATA_REPORT} lists all bad rows"
        yield _finding(rows, parsed.bad, hint)
        return
    bad = in_order([*parsed.bad, *rows.tokenized.refused])
    if bad:
        yield _finding(rows, bad, rows.tokenized.hint)


def _finding(rows: SourceRows[Any], bad: Sequence[RowProblem], remedy: str) -> Finding:
    examples = list(map(str, bad[:SHOWN_EXAMPLES]))
    listing = listed(examples, len(bad))
    return Finding(
        message=f"{rows.field} has {len(bad)} bad {'row' if len(bad) == 1 else 'rows'}: {listing}",
        count=len(bad),
        share=rows.share(bad),
        examples=examples,
        remedy=remedy or "correct or remove these rows",
    )
