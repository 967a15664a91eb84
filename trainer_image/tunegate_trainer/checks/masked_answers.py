"""Check for answers before the last one in training chats that are masked, because their prompts are held
out."""

from tunegate_trainer.checks.finding import CheckContext, Finding, Severity
from tunegate_trainer.checks.rows import SplitRows

NAME = "masked_answers"


def run(rows: SplitRows, context: CheckContext) -> list[Finding]:
    """Warn about answers before the last one of a chat that are not trained on, because their prompts are
    held out."""
    del context
    if not any(rows.masked):
        return []
    return [
        Finding(
            check=NAME,
            severity=Severity.WARNING,
            message=f"{sum(rows.masked)} earlier answers in {sum(map(bool, rows.masked))} of "
            f"{len(rows.masked)} training rows are not trained on, because their prompts are held out",
            count=sum(rows.masked),
        )
    ]
