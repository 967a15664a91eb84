"""Rows of a source that are longer than any stage can take: a few are left out, more are refused."""

from typing import Any

from tunegate_api.meta import exact
from tunegate_trainer.checks.finding import SHOWN_EXAMPLES, CheckContext, Finding, Severity
from tunegate_trainer.data.usable import SourceRows

NAME = "long_rows"


def run(rows: SourceRows[Any], context: CheckContext) -> list[Finding]:
    """Refuse a source of which more than the share ``data.maxTooLong`` is too long."""
    most_left_out = exact(context.request.spec.data.max_too_long)
    too_long, total = rows.tokenized.too_long, len(rows.parsed.rows)
    if len(too_long) <= most_left_out * total:
        return []
    longest = rows.longest
    most, raised = (
        (f"{longest.tokens} tokens", f"raise training.maxLength of stage {longest.stage}, ")
        if longest.stage
        else (f"the model's limit of {longest.tokens} tokens", "")
    )
    return [
        Finding(
            check=NAME,
            severity=Severity.ERROR,
            message=f"{rows.field}: {len(too_long)} of {total} rows are longer than {most}, the first in "
            f"line {too_long[0].line}; at most a share of {float(most_left_out):g} may be too long",
            count=len(too_long),
            examples=[f"line {problem.line}: {problem.reason}" for problem in too_long[:SHOWN_EXAMPLES]],
            remedy=f"{raised}shorten the rows, or raise data.maxTooLong",
            report=rows.tokenized_report,
        )
    ]
