"""Check for rows that an earlier job held out while it trained on other rows of the same groups."""

from collections.abc import Iterator

from tunegate_trainer.checks.finding import DATA_REPORT, CheckContext, Finding, Severity
from tunegate_trainer.checks.rows import SplitRows

NAME = "conflicting_sides"


def run(rows: SplitRows, context: CheckContext) -> Iterator[Finding]:
    """Warn if rows or pairs are excluded because of earlier jobs.

    This job trains on each group that an earlier job trained on. Rows of these groups are excluded if an
    earlier job held them out.
    """
    start = context.request.start_from
    if not (start and rows.conflicts):
        return
    yield Finding(
        severity=Severity.WARNING,
        message=f"{rows.conflicts} rows or pairs are excluded: FineTuneJob {start.job}, or a job that it "
        "started from, held them out but trained on other rows of their groups; "
        f"{DATA_REPORT} lists them",
        count=rows.conflicts,
    )
