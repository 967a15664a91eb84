"""Check for rows of a source that cannot be parsed, or that the model's chat template refuses."""

from collections.abc import Sequence
from typing import Any

from tunegate_trainer.checks.finding import SHOWN_EXAMPLES, CheckContext, Finding, Severity, listed
from tunegate_trainer.data.parse import RowProblem
from tunegate_trainer.data.usable import SourceRows

NAME = "bad_rows"


def run(rows: SourceRows[Any], context: CheckContext) -> list[Finding]:
    """Refuse a source that has no rows or that has bad rows. Rows are tokenized only if all can be parsed."""
    del context
    parsed = rows.parsed
    if parsed.bad:
        hint = "correct or remove these rows; data/report.json on the volume lists all bad rows"
        return [_finding(rows.field, parsed.bad, hint)]
    if not parsed.rows:
        return [
            Finding(
                check=NAME,
                severity=Severity.ERROR,
                message=f"{rows.field} has no rows",
                count=1,
                remedy="write one JSON object per line",
            )
        ]
    refused = rows.tokenized.refused
    return [_finding(rows.field, refused, rows.tokenized.hint)] if refused else []


def _finding(field: str, bad: Sequence[RowProblem], remedy: str) -> Finding:
    examples = [f"line {problem.line}: {problem.reason}" for problem in bad]
    return Finding(
        check=NAME,
        severity=Severity.ERROR,
        message=f"{field} has {len(bad)} bad {'row' if len(bad) == 1 else 'rows'}: {listed(examples)}",
        count=len(bad),
        examples=examples[:SHOWN_EXAMPLES],
        remedy=remedy,
    )
