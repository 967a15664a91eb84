"""Words and shingles of texts, as hashes in numpy arrays, and the template that many rows have in common.

A shingle is a run of :data:`SHINGLE_WORDS` consecutive words. All hashes are the same in every process.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from random import Random
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tunegate_trainer.data.words import WORD_WEIGHT, hash_of, words_of
from tunegate_trainer.process.batching import batched

Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]

SHINGLE_WORDS = 3
TEMPLATE_SHARE = 0.01
"""Shingles in more than this share of the sampled rows belong to the template."""
SAMPLED_ROWS = 10_000
"""Maximum number of rows that are read to find the template."""
SAMPLED_SHINGLES = 20_000_000
"""No more rows are read to find the template if those that were read have more shingles. They need 160 MB."""
BATCH_ROWS = 2048
"""Maximum number of rows that are hashed at a time. There are fewer if the rows are long."""

_START, _END = (
    np.uint64(int.from_bytes(blake2b(mark, digest_size=8).digest(), "big")) for mark in (b"^", b"$")
)
_FACTOR = np.uint64(0x9E3779B97F4A7C15)

Document = tuple[str, str]
"""The prompt and the answer of a row, or of a pair."""


@dataclass(frozen=True)
class Words:
    """The hashes of the words of some documents: the words of a prompt, and then those of its answer."""

    hashes: Hashes
    """The words of all documents, in order."""
    starts: Indices
    """The index of each document's first word. The last entry is the number of all words."""
    prompts: Indices
    """The number of words in each document's prompt."""

    @classmethod
    def of(cls, documents: Iterable[Document]) -> "Words":
        hashes: array[int] = array("Q")
        starts, prompts = [0], []
        for prompt, answer in documents:
            hashes.extend(map(hash_of.__getitem__, words_of(prompt)))
            prompts.append(len(hashes) - starts[-1])
            hashes.extend(map(hash_of.__getitem__, words_of(answer)))
            starts.append(len(hashes))
        of_words = np.frombuffer(hashes, np.uint64) if hashes else np.zeros(0, np.uint64)
        return cls(of_words, np.array(starts, np.int64), np.array(prompts, np.int64))

    def __len__(self) -> int:
        return len(self.prompts)

    @cached_property
    def counts(self) -> Indices:
        """The number of words in each document."""
        return np.diff(self.starts)

    @cached_property
    def owners(self) -> Indices:
        """The document of each word."""
        return np.repeat(np.arange(len(self)), self.counts)

    def without_answers(self) -> "Words":
        """Return the words of the prompts alone."""
        return Words(self.hashes[self._in_prompts], _starts(self.prompts), self.prompts)

    def without_prompts(self) -> "Words":
        """Return the words of the answers alone."""
        counts = self.counts - self.prompts
        return Words(self.hashes[~self._in_prompts], _starts(counts), np.zeros_like(counts))

    @cached_property
    def _in_prompts(self) -> NDArray[np.bool_]:
        """Whether each word is in a prompt."""
        inside: NDArray[np.bool_] = self._places < self.prompts[self.owners]
        return inside

    @property
    def _places(self) -> Indices:
        """The number of words before each word in its document."""
        places: Indices = np.arange(len(self.hashes)) - self.starts[self.owners]
        return places

    def keys(self) -> Hashes:
        """Return a hash of all words of each document. Documents with the same words have the same hash."""
        mixed = _mix(self.hashes + self._places.astype(np.uint64) * _FACTOR)
        sums: Hashes = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed)])
        return sums[self.starts[1:]] - sums[self.starts[:-1]]

    def runs(self, length: int) -> tuple[Hashes, Indices]:
        """Return a hash of each run of ``length`` words in a document, and the index of its first word."""
        if len(self.hashes) < length:
            return np.zeros(0, np.uint64), np.zeros(0, np.int64)
        first = np.arange(len(self.hashes) - length + 1)
        first = first[self.owners[first] == self.owners[first + length - 1]]
        hashes = np.zeros(len(first), np.uint64)
        for place in range(length):
            hashes = hashes * _FACTOR + self.hashes[first + place]
        return _mix(hashes), first

    @cached_property
    def weights(self) -> Indices:
        """The weight of each word. A character of a script without spaces weighs less than a word."""
        found = np.full(len(self.hashes), WORD_WEIGHT)
        if hash_of.weights:
            known, weights = np.array(sorted(hash_of.weights.items()), np.uint64).T
            is_known = is_in(self.hashes, known)
            found[is_known] = weights[np.searchsorted(known, self.hashes[is_known])]
        return found

    def passages(self, length: int) -> tuple[Hashes, Indices, Indices]:
        """Return a hash of each run that weighs at least ``length`` words, the index of its first word, and
        that after its last word. A run of words without lighter characters has ``length`` words."""
        if not len(self.hashes) or self.weights.min() == WORD_WEIGHT:
            hashes, first = self.runs(length)
            return hashes, first, first + length
        weighing = np.flatnonzero(self.weights)  # without marks, of which a text may have any number
        words, sums = self.hashes[weighing], _starts(self.weights[weighing])
        ends = np.searchsorted(sums, sums[:-1] + length * WORD_WEIGHT)
        first = np.flatnonzero(ends <= np.searchsorted(weighing, self.starts[1:])[self.owners[weighing]])
        ends = ends[first]
        hashes = np.zeros(len(first), np.uint64)
        for place in range(int((ends - first).max(initial=0))):
            longer = first + place < ends
            hashes[longer] = hashes[longer] * _FACTOR + words[first[longer] + place]
        return _mix(hashes), weighing[first], weighing[ends - 1] + 1

    @cached_property
    def shingles(self) -> tuple[Hashes, Indices]:
        """The shingles of all documents, and the document of each. Marks of the start and the end count as
        words, so that a changed word changes as many shingles there as in the middle."""
        margin = SHINGLE_WORDS - 1
        counts = self.counts + 2 * margin
        starts = _starts(counts)
        marked = np.full(starts[-1], _END, np.uint64)
        marked[(starts[:-1, None] + np.arange(margin)).ravel()] = _START
        marked[np.arange(len(self.hashes)) + (2 * self.owners + 1) * margin] = self.hashes
        hashes, first = Words(marked, starts, counts).runs(SHINGLE_WORDS)
        return hashes, np.repeat(np.arange(len(self)), counts - margin)[: len(first)]


def batches(documents: Iterable[Document]) -> Iterator[Words]:
    """Yield the words of all documents, up to :data:`BATCH_ROWS` at a time."""
    for batch in batched(documents, BATCH_ROWS, lambda document: sum(map(len, document))):
        yield Words.of(batch)


@dataclass(frozen=True)
class Template:
    """The shingles that many rows have in common. They are ignored in comparisons: rows with different
    content are not similar only because they have the same instructions."""

    shingles: Hashes
    """Sorted."""

    @classmethod
    def of(cls, documents: Sequence[Document], system_turns: Sequence[str] = ()) -> "Template":
        """Find the template in a sample of documents, and add all ``system_turns``.

        A shingle belongs to the template if more than :data:`TEMPLATE_SHARE` of the sample have it. In small
        data, more than ten documents must have it or, below 50 documents, more than a fifth and at least
        four.
        """
        step = -(-len(documents) // SAMPLED_ROWS) or 1
        sampled = list(range(0, len(documents), step))
        Random(0).shuffle(sampled)  # those that are read before the limit are a sample, too
        found: list[Hashes] = []
        rows = 0
        for words in batches(documents[i] for i in sampled):
            found.append(unique_pairs(*words.shingles)[0])
            rows += len(words)
            if sum(map(len, found)) > SAMPLED_SHINGLES:
                break
        shingles, counts = np.unique(np.concatenate([np.zeros(0, np.uint64), *found]), return_counts=True)
        least = max(3, min(10, rows // 5), TEMPLATE_SHARE * rows)
        of_turns = [words.shingles[0] for words in batches((turn, "") for turn in system_turns)]
        return cls(np.unique(np.concatenate([shingles[counts > least], *of_turns])))

    def joined(self, other: "Template") -> "Template":
        """Return the shingles of both templates."""
        return Template(np.union1d(self.shingles, other.shingles))

    def in_common(self, other: "Template") -> "Template":
        """Return the shingles that both templates have."""
        return Template(np.intersect1d(self.shingles, other.shingles))

    def has(self, shingles: Hashes) -> NDArray[np.bool_]:
        """Return which of the shingles belong to the template."""
        return is_in(shingles, self.shingles)

    def covers(self, words: Words) -> NDArray[np.bool_]:
        """Return which words are in a shingle of the template."""
        shingles, first = words.runs(SHINGLE_WORDS)
        first = first[self.has(shingles)]
        covered = np.zeros(len(words.hashes), np.bool_)
        for place in range(SHINGLE_WORDS):
            covered[first + place] = True
        return covered

    def without(self, shingles: set[int]) -> set[int]:
        """Return the shingles that do not belong to the template."""
        values = np.fromiter(shingles, np.uint64, len(shingles))
        return set(values[~self.has(values)].tolist())


ValueT = TypeVar("ValueT", bound=np.integer[Any])


def unique_pairs(values: NDArray[ValueT], owners: Indices) -> tuple[NDArray[ValueT], Indices, Indices]:
    """Return each different pair of a value and its owner, and how often it occurs."""
    order = np.lexsort((values, owners))
    values, owners = values[order], owners[order]
    new = np.ones(len(values), np.bool_)
    new[1:] = (values[1:] != values[:-1]) | (owners[1:] != owners[:-1])
    counts = np.diff(np.append(np.flatnonzero(new), len(values)))
    return values[new], owners[new], counts


def places(values: NDArray[Any]) -> Indices:
    """Return how many equal values are before each value. They are sorted."""
    return np.arange(len(values)) - np.searchsorted(values, values)


def is_in(values: Hashes, known: Hashes) -> NDArray[np.bool_]:
    """Return which of the values are in ``known``, which is sorted."""
    if not len(known):
        return np.zeros(len(values), np.bool_)
    at = np.searchsorted(known, values)
    found: NDArray[np.bool_] = known[np.minimum(at, len(known) - 1)] == values
    return found


def _starts(counts: Indices) -> Indices:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])


def _mix(values: Hashes) -> Hashes:
    """Mix the bits of each value (the finalizer of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
