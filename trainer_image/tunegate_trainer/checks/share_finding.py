"""The finding of a check that looks for a fault in each row and pair, and counts those that have it."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from tunegate_api.meta import summarize
from tunegate_trainer.checks.finding import SHOWN_EXAMPLES, Finding, Severity
from tunegate_trainer.checks.rows import UsableRows
from tunegate_trainer.data.usable import Measured

REPORTED = 10_000
"""Maximum number of rows of a finding in data/report.json. It limits memory if all of a million rows have the
fault."""

Examine = Callable[[Measured[Any]], str | None]
"""Returns what is wrong with a row or pair, or None."""


def share_finding(check: str, rows: UsableRows, examine: Examine, fault: str, remedy: str) -> list[Finding]:
    """Return one error with all rows and pairs in which ``examine`` finds a fault, or an empty list.

    ``fault`` completes the sentence "3 of 100 rows have ..."."""
    count = 0
    entries: list[dict[str, Any]] = []
    examples: list[str] = []
    for source, measured_rows in (("data.train", rows.rows), ("data.preference", rows.pairs)):
        for measured in measured_rows:
            reason = examine(measured)
            if reason is None:
                continue
            count += 1
            if len(entries) < REPORTED:
                entries.append({"source": source, **measured.labelled.place.entry, "reason": reason})
            if count <= SHOWN_EXAMPLES:
                of = " of data.preference" if source == "data.preference" else ""
                examples.append(f"{measured.labelled.place}{of}: {reason}")
    if not count:
        return []
    total = len(rows.rows) + len(rows.pairs)
    have = f"{count} of {total} rows {'has' if count == 1 else 'have'} {fault}"
    listed = summarize(examples, SHOWN_EXAMPLES, total=count, separator="; ", last="; and ")
    return [
        Finding(
            check=check,
            severity=Severity.ERROR,
            message=f"{have}: {listed}",
            count=count,
            share=Fraction(count, total),
            examples=examples,
            remedy=f"{remedy}; data/report.json on the volume lists "
            + ("these rows" if count <= REPORTED else f"the first {REPORTED} of these rows"),
            report={check: entries},
        )
    ]


def cut_text(text: str, most: int = 60) -> str:
    """Return a text as one line, shortened for a message."""
    line = " ".join(text[: 4 * most].split())
    return line if len(line) <= most and len(text) <= 4 * most else f"{line[:most]}…"


def masked(value: str) -> str:
    """Return the first characters of a value that must not be shown, at most four."""
    return f"{value[: min(4, len(value) // 3)]}…"
