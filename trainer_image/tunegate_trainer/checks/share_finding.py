"""The finding of a check that looks for a fault in each row and pair, and counts those that have it."""

from collections.abc import Callable
from fractions import Fraction
from itertools import chain
from typing import Any

from tunegate_trainer.checks.finding import DATA_REPORT, SHOWN_EXAMPLES, Finding, listed
from tunegate_trainer.checks.rows import UsableRows
from tunegate_trainer.data.usable import UsableRow

REPORTED = 10_000
"""Maximum number of rows of a finding in data/report.json. It limits memory if all of a million rows have the
fault."""

Examine = Callable[[UsableRow[Any]], str | None]
"""Returns what is wrong with a row or pair, or None."""


def where_listed(count: int, unit: str = "rows") -> str:
    """Return where the user finds the rows of a finding with this number of entries."""
    listed = f"these {unit}" if count <= REPORTED else f"the first {REPORTED} of these {unit}"
    return f"{DATA_REPORT} lists {listed}"


def share_finding(
    check: str, rows: UsableRows, examine: Examine, fault: str, remedy: str, *, unit: str = "rows"
) -> list[Finding]:
    """Return one error with all rows and pairs in which ``examine`` finds a fault, or an empty list.

    ``fault`` completes the sentence "3 of 100 rows have ..."."""
    count = 0
    entries: list[dict[str, Any]] = []
    examples: list[str] = []
    for measured in chain[UsableRow[Any]](rows.rows, rows.pairs):
        reason, place = examine(measured), measured.labelled.place
        if reason is None:
            continue
        count += 1
        if len(entries) < REPORTED:
            entries.append({**place.entry, "reason": reason})
        if count <= SHOWN_EXAMPLES:
            examples.append(f"{place}: {reason}")
    if not count:
        return []
    total = len(rows.rows) + len(rows.pairs)
    have = f"{count} of {total} {unit} {'has' if count == 1 else 'have'} {fault}"
    return [
        Finding(
            message=f"{have}: {listed(examples, count)}",
            count=count,
            share=Fraction(count, total),
            examples=examples,
            remedy=f"{remedy}; {where_listed(count, unit)}",
            report={check: entries},
        )
    ]
