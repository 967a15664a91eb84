"""Check for earlier answers that are not trained on because their prompts are held out.

An earlier answer is any assistant turn of a chat except the last one.
"""

from collections.abc import Iterator

from tunegate_trainer.checks.finding import CheckContext, Finding, Severity
from tunegate_trainer.checks.rows import SplitRows

NAME = "masked_answers"


def run(rows: SplitRows, _context: CheckContext) -> Iterator[Finding]:
    """Warn if earlier answers in training rows are masked because their prompts are held out."""
    if not any(rows.masked):
        return
    yield Finding(
        severity=Severity.WARNING,
        message=f"{sum(rows.masked)} earlier answers in {sum(map(bool, rows.masked))} of "
        f"{len(rows.masked)} training rows are not trained on, because their prompts are held out",
        count=sum(rows.masked),
    )
