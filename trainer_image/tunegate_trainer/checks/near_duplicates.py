"""Check for rows that repeat an earlier row except for a few words. Too many of them bias the model towards
what they say."""

from collections.abc import Iterator
from fractions import Fraction

from tunegate_trainer.checks.differences import difference
from tunegate_trainer.checks.finding import SHOWN_EXAMPLES, CheckContext, Finding, listed
from tunegate_trainer.checks.rows import UsableRows
from tunegate_trainer.checks.share_finding import REPORTED, where_listed

NAME = "near_duplicates"


def run(rows: UsableRows, _context: CheckContext) -> Iterator[Finding]:
    """Refuse data with too many near-duplicates. Exact repetitions are dropped before.

    Pairs are not counted: a pair often repeats a row, or a pair with another rejected answer.
    """
    repeating = [i for i in rows.near_duplicates.repeating if i < len(rows.rows)]
    if not repeating:
        return
    documents = rows.documents
    earlier = rows.near_duplicates.repeated
    examples = [
        f"{documents.place(i)} repeats {documents.place(int(earlier[i]))} "
        f"{difference(' '.join(documents[i]), ' '.join(documents[int(earlier[i])]))}"
        for i in repeating[:SHOWN_EXAMPLES]
    ]
    share = Fraction(len(repeating), len(rows.rows))
    rows_repeat = "1 row repeats" if len(repeating) == 1 else f"{len(repeating)} rows repeat"
    yield Finding(
        message=f"{rows_repeat} an earlier row except for a few words ({float(share):.1%} of all rows): "
        f"{listed(examples, len(repeating))}",
        count=len(repeating),
        share=share,
        examples=examples,
        remedy=f"remove or rewrite these rows; {where_listed(len(repeating))}",
        report={
            "near_duplicates": [
                {"row": documents.place(i), "repeats": documents.place(int(earlier[i]))}
                for i in repeating[:REPORTED]
            ]
        },
    )
