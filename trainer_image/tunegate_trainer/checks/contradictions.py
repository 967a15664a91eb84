"""Check for rows with equal prompts and different labels, and for pairs with opposite preferences.

Prompts are equal if all their turns, with the system turn, are equal after :func:`normalize`. If completions
are free text and not labels, a prompt may have several good answers, so rows are not compared.
"""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from tunegate_api.messages import Message
from tunegate_trainer.checks.finding import SHOWN_EXAMPLES, CheckContext, Finding, listed
from tunegate_trainer.checks.rows import UsableRows
from tunegate_trainer.data.labels import label_of
from tunegate_trainer.data.parse import prompt_text
from tunegate_trainer.data.split import normalize
from tunegate_trainer.tokens.rows import Pair, Row

NAME = "contradictions"
REPORTED = 1000
"""Maximum number of contradictions in data/report.json."""
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Contradictory:
    """Rows or pairs that contradict others of the same source."""

    count: int
    """The number of rows or pairs. All sides of a contradiction are counted."""
    matches: list[tuple[int, int]]
    """For each prompt, the indices of two rows or pairs that contradict each other. At most REPORTED."""


def run(rows: UsableRows, _context: CheckContext) -> Iterator[Finding]:
    """Report rows whose prompt has another label in another row, and pairs whose prompt has the opposite
    preference in another pair."""
    of_rows = _different_labels(rows)
    of_pairs = _opposite_pairs(measured.labelled.row for measured in rows.pairs)
    count = of_rows.count + of_pairs.count
    if not count:
        return
    examples = _row_examples(rows, of_rows) + _pair_examples(rows, of_pairs)
    what = {
        "rows with equal prompts and different labels": of_rows,
        "pairs with opposite preferences": of_pairs,
    }
    parts = [f"{found.count} {name}" for name, found in what.items() if found.count]
    yield Finding(
        message=f"the data has {' and '.join(parts)}: {listed(examples)}",
        count=count,
        share=Fraction(count, len(rows.rows) + len(rows.pairs)),
        examples=examples[:SHOWN_EXAMPLES],
        remedy="decide which of these answers are right, and remove the others",
        report={"contradictions": examples[:REPORTED]},
    )


def _different_labels(rows: UsableRows) -> Contradictory:
    if rows.labels is None:
        return Contradictory(0, [])
    prompts, values, indices = array("q"), array("q"), array("q")
    for index, measured in enumerate(rows.rows):
        row: Row = measured.labelled.row
        label = label_of(row)
        if label is not None:
            prompts.append(_key(row.prompt))
            values.append(hash(normalize(label)))
            indices.append(index)
    return _conflicts(*(np.frombuffer(column, dtype=np.int64) for column in (prompts, values, indices)))


def _conflicts(prompts: Numbers, values: Numbers, indices: Numbers) -> Contradictory:
    """Find the prompts that have more than one value. All arrays have one number for each row."""
    order = np.lexsort((indices, prompts))
    prompts, values, indices = prompts[order], values[order], indices[order]
    starts = np.flatnonzero(np.diff(prompts, prepend=prompts[0] - 1))
    differs = np.minimum.reduceat(values, starts) != np.maximum.reduceat(values, starts)
    ends = np.append(starts[1:], len(prompts))
    found = []
    for start, end in zip(starts[differs], ends[differs], strict=True):
        other = start + int(np.argmax(values[start:end] != values[start]))
        found.append((int(indices[start]), int(indices[other])))
    return Contradictory(int((ends - starts)[differs].sum()), sorted(found)[:REPORTED])


def _opposite_pairs(pairs: Iterable[Pair]) -> Contradictory:
    given, opposite = array("q"), array("q")
    for pair in pairs:
        prompt, chosen, rejected = _key(pair.prompt), normalize(pair.chosen), normalize(pair.rejected)
        given.append(hash((prompt, chosen, rejected)))
        opposite.append(hash((prompt, rejected, chosen)))
    keys, wanted = (np.frombuffer(column, dtype=np.int64) for column in (given, opposite))
    conflicting = np.flatnonzero((keys != wanted) & np.isin(wanted, keys))
    first: dict[int, int] = {}
    found = []
    for index in map(int, conflicting):
        if wanted[index] in first:
            found.append((first.pop(int(wanted[index])), index))
        else:
            first.setdefault(int(keys[index]), index)
    return Contradictory(len(conflicting), sorted(found)[:REPORTED])


def _key(prompt: list[Message]) -> int:
    """Return a number that equal prompts have in common."""
    return hash((prompt[0].role, normalize(prompt_text(prompt))))


def _row_examples(rows: UsableRows, found: Contradictory) -> list[str]:
    examples = []
    for first, second in found.matches:
        labels = [label_of(rows.rows[index].labelled.row) for index in (first, second)]
        examples.append(
            f"{rows.documents.place(first)} has the label {labels[0]!r}, but {rows.documents.place(second)} "
            f"has the label {labels[1]!r}"
        )
    return examples


def _pair_examples(rows: UsableRows, found: Contradictory) -> list[str]:
    start = len(rows.rows)
    return [
        f"{rows.documents.place(start + first)} prefers the completion that "
        f"{rows.documents.place(start + second)} rejects"
        for first, second in found.matches
    ]
