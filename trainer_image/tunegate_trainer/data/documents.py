"""The texts of rows and pairs, for comparisons with each other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunegate_trainer.data.parse import prompt_text
from tunegate_trainer.data.shingles import Document, Template
from tunegate_trainer.data.usable import UsableRow
from tunegate_trainer.tokens.lazy_sequence import LazySequence
from tunegate_trainer.tokens.rows import Pair, Row

_MOST_CHARACTERS = 20_000_000
"""Maximum number of characters of system turns in the template, which then needs about 30 MB."""


@dataclass(frozen=True)
class Documents(LazySequence[Document]):
    """The documents of all rows, and then those of all pairs. They are read when they are needed."""

    rows: Sequence[UsableRow[Row]]
    pairs: Sequence[UsableRow[Pair]]

    def __len__(self) -> int:
        return len(self.rows) + len(self.pairs)

    def __iter__(self) -> Iterator[Document]:
        yield from map(document_of, self.rows)
        yield from map(document_of, self.pairs)

    def item(self, index: int) -> Document:
        return document_of(self.measured(index))

    def place(self, index: int) -> str:
        """Return where a row or pair is in its source."""
        return str(self.measured(index).labelled.place)

    def measured(self, index: int) -> UsableRow[Row] | UsableRow[Pair]:
        """Return a row or pair."""
        return self.rows[index] if index < len(self.rows) else self.pairs[index - len(self.rows)]


def find_template(documents: Documents) -> Template:
    """Return the template of rows and pairs. It includes every system turn that several of them have, because
    rows are not similar only because they have the same instructions."""
    everything: list[UsableRow[Any]] = [*documents.rows, *documents.pairs]
    systems = np.fromiter((one.labelled.system for one in everything), np.int64, len(everything))
    values, first, counts = np.unique(systems, return_index=True, return_counts=True)
    turns: list[str] = []
    characters = 0
    for index in np.sort(first[(values != 0) & (counts > 1)]).tolist():
        turns.append(everything[index].labelled.row.prompt[0].content)
        characters += len(turns[-1])
        if characters > _MOST_CHARACTERS:
            break
    return Template.of(documents, turns)


def document_of(measured: UsableRow[Row] | UsableRow[Pair]) -> Document:
    """Return the prompt and the answer of a row, or the prompt and the chosen answer of a pair.

    Rejected answers are left out, because they are often the answers to other prompts."""
    row = measured.labelled.row
    if isinstance(row, Pair):
        answer = row.chosen
    else:
        answer = prompt_text([row.answer]) if row.tool_calls else row.completion
    return prompt_text(row.prompt), answer
