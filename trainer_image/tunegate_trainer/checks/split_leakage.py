"""Check for training rows that repeat held-out rows, or contain most of one among other text. Such rows are
kept in the same split: this check proves it."""

from collections.abc import Iterator
from fractions import Fraction

from tunegate_trainer.checks.differences import common_passage, difference
from tunegate_trainer.checks.finding import SHOWN_EXAMPLES, CheckContext, Finding, Severity, listed
from tunegate_trainer.checks.leaked_passages import first_leaks
from tunegate_trainer.checks.rows import Leaks, SplitRows
from tunegate_trainer.checks.share_finding import where_listed
from tunegate_trainer.data.documents import Documents
from tunegate_trainer.data.overlaps import contains_most
from tunegate_trainer.data.passages import Passages, SimilarTexts
from tunegate_trainer.data.shingles import Words, batches

NAME = "split_leakage"


def run(rows: SplitRows, _context: CheckContext) -> Iterator[Finding]:
    """Refuse training rows that are near-duplicates of dev or test rows, or that contain more than half of
    the 13-word passages of one. Words of the template are not compared.

    Warn if a cluster of similar rows is so large that its rows do not stay in one split."""
    too_many = f"{rows.left_apart} similar rows are too many to stay in one split"
    train, held_out = rows.trained, rows.held_out
    leaks, total, count = rows.leaks or find_leaks(rows)
    if not leaks and not rows.left_apart:
        return
    if not leaks:
        yield Finding(
            severity=Severity.WARNING,
            message=f"{too_many}, so training rows may repeat held-out rows: remove near-duplicates, or "
            "set heldOut.groupBy",
            count=rows.left_apart,
        )
        return
    sides = ["dev"] * len(rows.rows.dev) + ["test"] * len(rows.rows.test)
    sides += ["dev"] * len(rows.pairs.dev) + ["test"] * len(rows.pairs.test)
    examples = [
        f"{train.place(row)} {_shared(train, row, held_out, other, similar)} {held_out.place(other)} "
        f"({sides[other]})"
        for row, other, similar in leaks[:SHOWN_EXAMPLES]
    ]
    repeat = "1 training row repeats" if count == 1 else f"{count} training rows repeat"
    yield Finding(
        message=f"{repeat} held-out rows: {listed(examples, total)}",
        count=count,
        share=Fraction(count, len(train)),
        examples=examples,
        remedy="remove one row of each pair, or set heldOut.groupBy to a field that is equal in both; "
        + (f"{too_many}; " if rows.left_apart else "")
        + where_listed(total),
        report={
            "split_leakage": [
                {"train": train.place(row), sides[other]: held_out.place(other)} for row, other, _ in leaks
            ]
        },
    )


def find_leaks(rows: SplitRows) -> Leaks:
    """Return the leaks that :func:`run` refuses, see :func:`first_leaks`."""
    return first_leaks(_leaks(rows))


def leaking_rows(rows: SplitRows) -> dict[int, int]:
    """Return the indices of all training rows with too much in common with held-out rows, each with the index
    of one of them."""
    return {row: other for row, other, _ in _leaks(rows)}


def _leaks(rows: SplitRows) -> Iterator[tuple[int, int, bool]]:
    """Yield the indices of each training row and held-out row with too much in common, and whether they are
    near-duplicates.

    Passages of held-out pairs are not compared, because an answer often occurs in the answers of other pairs.
    Chats with masked answers are left out: they start with the turns of a held-out chat, whose answer is not
    trained on.
    """
    held_out = rows.held_out
    passages = Passages(Words.of(Documents(held_out.rows, [])), rows.template, ignore_frequent=False)
    similar_texts = SimilarTexts(Words.of(held_out), rows.template)
    start = 0
    for words in batches(rows.trained):
        found = {
            (one.row, one.text): False
            for one in passages.shared_with(words)
            if contains_most(one.count, int(passages.counts[one.text]))
        }
        found |= dict.fromkeys(similar_texts.similar_to(words), True)
        for (row, other), is_similar in sorted(found.items()):
            index = start + row
            if not (index < len(rows.masked) and rows.masked[index]):
                yield index, other, is_similar
        start += len(words)


def _shared(train: Documents, row: int, held_out: Documents, other: int, similar: bool) -> str:
    of_row, of_other = "\n".join(train[row]), "\n".join(held_out[other])
    if similar:
        return f"repeats, {difference(of_row, of_other)},"
    return f"has {common_passage(of_row, of_other)} of"
