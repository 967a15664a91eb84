"""Check whether ``heldOut.fraction`` asks for more held-out rows than the limit allows."""

from collections.abc import Iterator

from tunegate_api.v1alpha2.shares import share
from tunegate_api.verdict.outcomes import MAX_CASES
from tunegate_trainer.checks.finding import CheckContext, Finding, Severity
from tunegate_trainer.checks.rows import SplitRows
from tunegate_trainer.data.split import SIDES

NAME = "capped_splits"


def run(rows: SplitRows, context: CheckContext) -> Iterator[Finding]:
    """Warn if dev and test together have fewer rows or pairs than ``heldOut.fraction`` asks for, because each
    may have at most ``MAX_CASES``."""
    spec = context.request.spec
    fraction = spec.data.held_out.fraction
    learns_rows = any(stage.method == "SFT" for stage in spec.stages)
    rest = "the other rows are trained on" if learns_rows else "no stage trains on the other rows"
    wanted = round(share(fraction) * rows.total)
    if wanted > 2 * MAX_CASES:
        yield _capped(
            wanted,
            f"heldOut.fraction {fraction} of {rows.total} rows is {wanted} rows, but dev and test can "
            f"have at most {MAX_CASES} rows each; {rest}",
        )
    pairs = [pair for side in SIDES for pair in rows.pairs.side(side)]
    of_rows = {row.group for side in SIDES for row in rows.rows.side(side)}
    unassigned = sum(pair.group not in of_rows for pair in pairs)
    wanted = round(share(fraction) * len(pairs))
    if share(fraction) * unassigned > 2 * MAX_CASES:
        yield _capped(
            wanted,
            f"heldOut.fraction {fraction} of {len(pairs)} pairs is {wanted} pairs, but dev and test can "
            f"have at most {MAX_CASES} pairs each, without pairs in the groups of held-out rows; the "
            "other pairs are trained on",
        )


def _capped(wanted: int, message: str) -> Finding:
    return Finding(severity=Severity.WARNING, message=message, count=wanted - 2 * MAX_CASES)
