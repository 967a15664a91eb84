"""Check for rows that have more tokens than allowed. They are excluded if they are at most the share
``data.maxTooLong`` of all rows. Otherwise the data is refused."""

from collections.abc import Iterator
from typing import Any

from tunegate_api.v1alpha2.shares import share
from tunegate_trainer.checks.finding import SHOWN_EXAMPLES, CheckContext, Finding
from tunegate_trainer.data.usable import SourceRows

NAME = "long_rows"


def run(rows: SourceRows[Any], context: CheckContext) -> Iterator[Finding]:
    """Refuse a source if the share of its rows that are too long is larger than ``data.maxTooLong``."""
    most = context.request.spec.data.max_too_long
    too_long, total = rows.tokenized.too_long, len(rows.parsed.rows)
    if len(too_long) <= share(most) * total:
        return
    longest = rows.longest
    limit, raised = (
        (f"{longest.tokens} tokens", f"raise training.maxLength of stage {longest.stage}, ")
        if longest.stage
        else (f"the model's limit of {longest.tokens} tokens", "")
    )
    yield Finding(
        message=f"{rows.field}: {len(too_long)} of {total} rows are longer than {limit}, the first in "
        f"{too_long[0].place}; data.maxTooLong allows {most}",
        count=len(too_long),
        examples=list(map(str, too_long[:SHOWN_EXAMPLES])),
        remedy=f"{raised}shorten the rows, or raise data.maxTooLong",
    )
