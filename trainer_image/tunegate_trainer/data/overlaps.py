"""Find rows that contain most of another row among other text, so that both get the same split.

Each row is indexed by the few of its passages that have the lowest hashes. A row that contains more than half
of another one contains one of these passages with a probability of 99.6 % or more (a bottom-k sketch; Broder,
On the resemblance and containment of documents, 1997). Rows that do are compared exactly. All rows are read
twice, and an index of a million rows needs 100 MB.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunegate_trainer.data.clusters import Clusters
from tunegate_trainer.data.documents import Documents
from tunegate_trainer.data.passages import Index, passages_of
from tunegate_trainer.data.shingles import (
    Document,
    Hashes,
    Indices,
    Template,
    Words,
    batches,
    places,
    unique_pairs,
)
from tunegate_trainer.data.usable import UsableRow

MAX_SHARED = Fraction(1, 2)
"""Rows are split apart only if neither contains more than this share of the other one's passages."""
_SAMPLED = 8
"""The number of passages by which a row is found in others."""
_MOST_OWNERS = 4
"""The maximum number of rows that are indexed by the same passage. Rows that share a text are all compared
with these rows, and therefore join one cluster."""
_READ_AT_ONCE = 128


def contains_most(shared: int, passages: int) -> bool:
    """Return whether a row that shares this number of the ``passages`` of another row contains most of it."""
    return shared > MAX_SHARED * passages


def join_overlaps(documents: Sequence[Document], rows: int, template: Template, clusters: Indices) -> Indices:
    """Return ``clusters``, the first document of the cluster of each document, after clusters are joined if
    they have documents of which one contains most of another one.

    Only the first ``rows`` documents are looked for in others. The rest are pairs, whose answers often occur
    in other pairs.
    """
    joined = Clusters(len(documents))
    joined.join(np.arange(len(documents)), clusters)
    index = _index(documents, rows, template)
    first = 0
    for words in batches(documents):
        batch = _Passages.of(words, template)
        members, others, _ = index.common(batch.hashes, batch.owners)
        while len(members):
            apart = ~joined.joined(members + first, others)
            members, others = members[apart], others[apart]
            compared = np.unique(members, return_index=True)[1]  # one other document for each
            for start in range(0, len(compared), _READ_AT_ONCE):
                part = compared[start : start + _READ_AT_ONCE]
                read, at = np.unique(others[part], return_inverse=True)
                found = _Passages.of(Words.of(documents[i] for i in read.tolist()), template)
                linked = part[_overlap(batch, members[part], found, at, rows - first)]
                joined.join(members[linked] + first, others[linked])
            members, others = np.delete(members, compared), np.delete(others, compared)
        first += len(words)
    return joined.first


def join_pairs(
    documents: Documents, clusters: Indices, pairs: Iterable[tuple[UsableRow[Any], UsableRow[Any]]]
) -> Indices:
    """Return ``clusters`` after the clusters of each of these ``pairs`` of documents are joined. Documents
    may have other groups in ``pairs``."""
    everything: list[UsableRow[Any]] = [*documents.rows, *documents.pairs]
    index = {id(one.labelled): i for i, one in enumerate(everything)}
    indices = np.array([(index[id(one.labelled)], index[id(two.labelled)]) for one, two in pairs])
    joined = Clusters(len(documents))
    joined.join(np.arange(len(documents)), clusters)
    joined.join(indices[:, 0], indices[:, 1])
    return joined.first


@dataclass(frozen=True)
class _Passages:
    """The passages of some documents, sorted by document and hash."""

    hashes: Hashes
    owners: Indices
    """The document of each passage."""

    @classmethod
    def of(cls, words: Words, template: Template) -> "_Passages":
        hashes, owners, _ = unique_pairs(*passages_of(words, template))
        return cls(hashes, owners)

    def of_document(self, index: int) -> set[int]:
        start, end = np.searchsorted(self.owners, (index, index + 1))
        return set(self.hashes[start:end].tolist())


def _overlap(
    batch: _Passages, members: Indices, found: _Passages, others: Indices, rows: int
) -> NDArray[np.bool_]:
    """Return which members of a batch contain most of the other document, or are rows, which are the first
    ``rows`` documents of the batch, and are contained in it."""
    overlap = []
    for member, other in zip(members.tolist(), others.tolist(), strict=True):
        own, of_other = batch.of_document(member), found.of_document(other)
        shared = len(own & of_other)
        overlap.append(
            contains_most(shared, len(of_other)) or (member < rows and contains_most(shared, len(own)))
        )
    return np.array(overlap, np.bool_)


def _index(documents: Sequence[Document], rows: int, template: Template) -> Index:
    """Return an index of a sample of the passages of the first ``rows`` documents."""
    hashes, owners = [np.zeros(0, np.uint64)], [np.zeros(0, np.int32)]
    first = 0
    for words in batches(documents):
        batch = _Passages.of(words, template)
        kept = (places(batch.owners) < _SAMPLED) & (batch.owners < rows - first)
        hashes.append(batch.hashes[kept])
        owners.append((batch.owners[kept] + first).astype(np.int32))
        first += len(words)
    return Index(np.concatenate(hashes), np.concatenate(owners), most=_MOST_OWNERS)
