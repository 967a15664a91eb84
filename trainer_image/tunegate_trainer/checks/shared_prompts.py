"""Check for groups of ``heldOut.groupBy`` that were joined because they share prompts."""

from collections.abc import Iterator

from tunegate_trainer.checks.finding import CheckContext, Finding, Severity
from tunegate_trainer.checks.rows import UsableRows

NAME = "shared_prompts"


def run(rows: UsableRows, _context: CheckContext) -> Iterator[Finding]:
    """Warn if groups were joined because they share prompts. If such groups were kept apart, a held-out
    prompt could be trained on."""
    groups = {row.group for row in rows.rows} | {pair.group for pair in rows.pairs}
    if len(groups) == rows.groups_before:
        return
    yield Finding(
        severity=Severity.WARNING,
        message=f"some of the {rows.groups_before} groups of heldOut.groupBy share prompts: these were "
        f"joined, so that no held-out prompt is trained on, and {len(groups)} groups are left",
        count=rows.groups_before - len(groups),
    )
