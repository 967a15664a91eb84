"""Find rows that contain passages of other texts, such as golden cases or held-out rows, or that are
near-duplicates of them.

Passages are compared by the rule of GPT-3 (Brown et al., Language Models are Few-Shot Learners, 2020,
appendix C) and of lm-evaluation-harness (docs/decontamination.md): a text is contaminated if it has 13
consecutive words in common with training data, whatever their case and punctuation. Both ignore runs that
many training documents have. Here, a run counts if at most three of its words belong to the template, because
in a templated task a run often consists of the template and a few words of the row. In scripts without spaces
between words, a run has more characters, see :attr:`~tunegate_trainer.data.shingles.Words.weights`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunegate_trainer.data.near_duplicates import SIMILARITY, are_similar, shingle_sets
from tunegate_trainer.data.shingles import (
    Hashes,
    Indices,
    Template,
    Words,
    is_in,
    places,
    unique_pairs,
)
from tunegate_trainer.data.words import WORD_WEIGHT

PASSAGE_WORDS = 13
_OWN_WORDS = 10
"""How many words of a passage must be outside the template."""
_FEW_TEXTS = 3
"""Frequent passages, in more than half of the texts, are ignored if they are in more texts than this."""


@dataclass(frozen=True)
class Shared:
    """How many different passages of a text are in a row."""

    row: int
    text: int
    count: int


class Passages:
    """An index of the passages of some texts."""

    def __init__(self, texts: Words, template: Template, *, ignore_frequent: bool = True) -> None:
        self._template = template
        passages, owners, _ = unique_pairs(*passages_of(texts, template))
        if ignore_frequent:
            known, cases = np.unique(passages, return_counts=True)
            rare = ~is_in(passages, known[cases > max(_FEW_TEXTS, len(texts) / 2)])
            passages, owners = passages[rare], owners[rare]
        self._index = Index(passages, owners)
        self.counts = np.bincount(self._index.owners, minlength=len(texts))
        """The number of different passages in each text."""

    def shared_with(self, rows: Words) -> list[Shared]:
        """Return which rows contain passages of which texts."""
        passages, owners = passages_of(rows, self._template, self._index.hashes)
        common = self._index.common(passages, owners)
        return [
            Shared(row, text, count)
            for row, text, count in zip(*(one.tolist() for one in common), strict=True)
        ]


class SimilarTexts:
    """An index of texts, to find their near-duplicates among rows. Unlike
    :func:`near_duplicates.find_near_duplicates`, the search is exact and finds all of them, because there are
    few texts."""

    def __init__(self, texts: Words, template: Template) -> None:
        self._template = template
        self._sets = shingle_sets(texts)
        shingles, owners, _ = unique_pairs(*texts.shingles)
        content = ~template.has(shingles)
        self._index = Index(shingles[content], owners[content])
        self._counts = np.bincount(owners[content], minlength=len(texts))
        self._text_of = {key: text for text, key in reversed(list(enumerate(texts.keys().tolist())))}

    def similar_to(self, rows: Words) -> list[tuple[int, int]]:
        """Return the rows that are near-duplicates of texts or have the same words, each with the text."""
        keys = rows.keys().tolist()
        found = {(row, self._text_of[key]): None for row, key in enumerate(keys) if key in self._text_of}
        shingles, owners, _ = unique_pairs(*rows.shingles)
        content = ~self._template.has(shingles)
        shingles, owners = shingles[content], owners[content]
        row, text, common = self._index.common(shingles, owners)
        counts = np.bincount(owners, minlength=len(rows))
        likely = common >= SIMILARITY * (counts[row] + self._counts[text] - common)
        if likely.any():
            sets = shingle_sets(rows)
            for one, other in zip(row[likely].tolist(), text[likely].tolist(), strict=True):
                if are_similar(sets[one], self._sets[other], self._template):
                    found[one, other] = None
        return sorted(found)


class Index:
    """The owners of hashes. Each pair of a hash and its owner is in the index once. ``most`` limits the
    number of owners of a hash; the first ones are kept."""

    def __init__(self, hashes: Hashes, owners: NDArray[np.integer[Any]], most: int | None = None) -> None:
        order = np.argsort(hashes, kind="stable")
        self.hashes, self.owners = hashes[order], owners[order]
        if most is not None:
            kept = places(self.hashes) < most
            self.hashes, self.owners = self.hashes[kept], self.owners[kept]

    def common(self, hashes: Hashes, rows: Indices) -> tuple[Indices, Indices, Indices]:
        """Return each row and owner with hashes in common, and how many different ones."""
        known = is_in(hashes, self.hashes)
        hashes, rows, _ = unique_pairs(hashes[known], rows[known])
        first = np.searchsorted(self.hashes, hashes, "left")
        counts = np.searchsorted(self.hashes, hashes, "right") - first
        starts = np.repeat(np.cumsum(counts) - counts, counts)
        at = np.repeat(first, counts) + np.arange(len(starts)) - starts
        owners, of_rows, common = unique_pairs(self.owners[at], np.repeat(rows, counts))
        return of_rows, owners, common


def passages_of(words: Words, template: Template, known: Hashes | None = None) -> tuple[Hashes, Indices]:
    """Return the passages with enough words outside the template, and the document of each. If ``known`` is
    given, return only passages in it; it is sorted."""
    hashes, first, ends = words.passages(PASSAGE_WORDS)
    if known is not None:
        found = is_in(hashes, known)
        hashes, first, ends = hashes[found], first[found], ends[found]
    if not len(hashes):
        return hashes, first
    own = np.concatenate([np.zeros(1, np.int64), np.cumsum(words.weights * ~template.covers(words))])
    enough = own[ends] - own[first] >= _OWN_WORDS * WORD_WEIGHT
    return hashes[enough], words.owners[first[enough]]
