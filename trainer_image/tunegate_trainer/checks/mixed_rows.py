"""Check for sources of use Mix of which rows are not trained on, because they repeat held-out rows."""

from collections.abc import Iterator

from tunegate_trainer.checks.finding import SHOWN_EXAMPLES, CheckContext, Finding, Severity
from tunegate_trainer.data.mix import TrainedMix

NAME = "mixed_rows"


def run(rows: TrainedMix, _context: CheckContext) -> Iterator[Finding]:
    """Warn if rows of a source were left out, or if no row of it is trained on."""
    left_out, source = len(rows.left_out), rows.source.spec.name
    if rows.rows and not left_out:
        return
    messages = []
    if left_out:
        are = "1 row of {} is" if left_out == 1 else f"{left_out} rows of {{}} are"
        messages.append(
            f"{are.format(source)} not trained on, because of held-out rows with the same content"
        )
    if not rows.rows:
        messages.append(f"no row of {source} is trained on: check its address and weight")
    yield Finding(
        severity=Severity.WARNING,
        message="; ".join(messages),
        count=left_out or 1,
        examples=[str(problem) for problem in rows.left_out[:SHOWN_EXAMPLES]],
    )
