"""Find rows that repeat an earlier row except for a few words: MinHash, and then an exact comparison.

MinHash signatures are split into bands, and rows that are equal in a band are candidates (locality-sensitive
hashing; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3). The LSH index of rensa
returns all candidates of a row, which is quadratic if many rows have a band in common. Here each row of a
bucket is compared with the first one of the bucket, and rows that differ from it with the first one among
these, a limited number of times. So the time is linear in the number of rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash  # type: ignore[import-untyped]

from tunegate_trainer.data.clusters import Clusters
from tunegate_trainer.data.shingles import Document, Hashes, Indices, Template, Words, batches
from tunegate_trainer.process.batching import batched

SIMILARITY = 0.6
"""Minimum Jaccard similarity of two near-duplicates, in shingles of all words and in shingles outside the
template."""
MIN_ANSWER_SIMILARITY = 0.25
"""Minimum Jaccard similarity of the answers of a row that repeats another one. Different answers to similar
prompts are no repetitions, but such rows belong to one cluster."""
_BANDS, _BAND_ROWS = 32, 3
"""Rows with a similarity of 0.6 are candidates with a probability of 99.96 %."""
_PERMUTATIONS = _BANDS * _BAND_ROWS
_SEED = 1
_LEAST_ESTIMATE = SIMILARITY - 0.2
"""Candidates are compared exactly if their signatures agree in this share. Its standard error is 0.05 or
less."""
_ROUNDS = 8
"""Maximum number of comparisons of a row in one bucket."""
_ESTIMATED_AT_ONCE = 2048
"""How many candidates are compared by their signatures at a time, which limits the memory."""
_COMPARED_AT_ONCE = 128
"""Maximum number of pairs that are compared exactly at a time. There are fewer if the documents are long."""
_COMPARED_WORDS = 2_000_000
"""Maximum number of words of these pairs."""
_MOST_COMPARED = 500_000
"""How many exact comparisons are remembered, in about 60 MB. Then all are forgotten, and repeated if
necessary."""


@dataclass(frozen=True)
class NearDuplicates:
    """The near-duplicates among documents."""

    template: Template
    repeated: Indices
    """For each document, the index of an earlier one that it repeats except for a few words, or -1."""
    clusters: Indices
    """For each document, the first one of its cluster. Near-duplicates are in one cluster, whatever their
    answers, and so are documents whose prompts have the same words."""

    @property
    def repeating(self) -> list[int]:
        """The indices of the documents that repeat an earlier one."""
        found: list[int] = np.flatnonzero(self.repeated >= 0).tolist()
        return found


def find_near_duplicates(documents: Sequence[Document], template: Template | None = None) -> NearDuplicates:
    """Find the near-duplicates among documents. ``template`` defaults to the template of the documents."""
    template = template or Template.of(documents)
    sketches = _Sketches.of(documents, template)
    search = _Search(documents, template, sketches)
    search.match_equal(sketches.words)
    for band in sketches.bands:
        search.match_band(band)
    search.match_prompts(sketches.prompts)
    return NearDuplicates(template, search.repeated, search.clusters.first)


def are_similar(first: set[int], second: set[int], template: Template) -> bool:
    """Return whether two documents with these shingles are near-duplicates."""
    return (
        jaccard(first, second) >= SIMILARITY
        and jaccard(template.without(first), template.without(second)) >= SIMILARITY
    )


def shingle_sets(words: Words) -> list[set[int]]:
    """Return the shingles of each document."""
    shingles, owners = words.shingles
    starts = np.searchsorted(owners, np.arange(len(words) + 1))
    return [set(shingles[start:end].tolist()) for start, end in pairwise(starts)]


def jaccard(first: set[int], second: set[int]) -> float:
    """Return the share of the shingles of two texts that both have."""
    common = len(first & second)
    return common / max(1, len(first) + len(second) - common)


@dataclass(frozen=True)
class _Sketches:
    """What is kept of each document: about 250 bytes."""

    words: Hashes
    """A hash of all words."""
    counts: Indices
    """The number of words."""
    prompts: Hashes
    """A hash of all words of the prompt."""
    signatures: NDArray[np.uint8]
    """The lowest 8 bits of each MinHash. They suffice to estimate the similarity of two documents (Li and
    König, b-Bit Minwise Hashing, 2010)."""
    bands: NDArray[np.uint32]
    """A hash of the MinHashes in each band, by band and document."""
    has_content: NDArray[np.bool_]
    """False if all shingles of the document belong to the template."""

    @classmethod
    def of(cls, documents: Sequence[Document], template: Template) -> "_Sketches":
        total = len(documents)
        made = cls(
            words=np.zeros(total, np.uint64),
            counts=np.zeros(total, np.int64),
            prompts=np.zeros(total, np.uint64),
            signatures=np.zeros((total, _PERMUTATIONS), np.uint8),
            bands=np.zeros((_BANDS, total), np.uint32),
            has_content=np.zeros(total, np.bool_),
        )
        start = 0
        for words in batches(documents):
            part = slice(start, start := start + len(words))
            made.words[part], made.counts[part] = words.keys(), words.counts
            made.prompts[part] = words.without_answers().keys()
            shingles, owners = words.shingles
            content = ~template.has(shingles)
            counts = np.bincount(owners[content], minlength=len(words))
            ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
            matrix = RMinHash.digest_matrix_from_flat_token_hashes(
                shingles[content], ends.tolist(), _PERMUTATIONS, _SEED
            )
            digests = np.array(matrix.to_rows(), np.uint32)
            made.has_content[part] = counts > 0
            made.signatures[part] = digests.astype(np.uint8)
            made.bands[:, part] = _band_hashes(digests)
        return made


def _band_hashes(digests: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return a hash of each band of each signature, by band and document."""
    hashes = np.zeros((_BANDS, len(digests)), np.uint64)
    for row in range(_BAND_ROWS):
        hashes = (hashes ^ (hashes >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15)
        hashes += digests[:, row::_BAND_ROWS].T
    hashes *= np.uint64(0xBF58476D1CE4E5B9)
    return (hashes >> np.uint64(32)).astype(np.uint32)


@dataclass
class _Search:
    documents: Sequence[Document]
    template: Template
    sketches: _Sketches
    repeated: Indices = field(init=False)
    clusters: Clusters = field(init=False)
    _compared: dict[int, bool] = field(default_factory=dict)
    """Candidates that were compared exactly, and whether they are near-duplicates."""

    def __post_init__(self) -> None:
        self.repeated = np.full(len(self.documents), -1, np.int64)
        self.clusters = Clusters(len(self.documents))

    def match_equal(self, keys: Hashes) -> None:
        """Match documents with the same words."""
        members, buckets = _buckets(keys, np.arange(len(keys)))
        leaders, _ = _leaders(members, buckets)
        repeats = members != leaders
        self.repeated[members[repeats]] = leaders[repeats]
        self.clusters.join(members, leaders)

    def match_prompts(self, keys: Hashes) -> None:
        """Join the clusters of documents whose prompts have the same words."""
        members, buckets = _buckets(keys, np.arange(len(keys)))
        self.clusters.join(members, _leaders(members, buckets)[0])

    def match_band(self, band: NDArray[np.uint32]) -> None:
        """Match near-duplicates among documents that are equal in a band."""
        members, buckets = _buckets(band, np.flatnonzero(self.sketches.has_content))
        for _ in range(_ROUNDS):
            if not len(members):
                break
            leaders, is_leader = _leaders(members, buckets)
            members, buckets, leaders = members[~is_leader], buckets[~is_leader], leaders[~is_leader]
            matched = self._match(members, leaders)
            members, buckets = members[~matched], buckets[~matched]

    def _match(self, members: Indices, leaders: Indices) -> NDArray[np.bool_]:
        """Compare documents with earlier ones. Return which of them need no more comparisons in this
        bucket, because they are near-duplicates or were found in this cluster before."""
        matched: NDArray[np.bool_] = self.clusters.joined(members, leaders)
        matched &= self.repeated[members] >= 0
        similar = np.flatnonzero(~matched)
        similar = similar[self._estimate(members[similar], leaders[similar])]
        words = self.sketches.counts[members] + self.sketches.counts[leaders]
        for batch in batched(similar, _COMPARED_AT_ONCE, lambda at: int(words[at]), _COMPARED_WORDS):
            part = np.array(batch)
            matched[part] = self._compare(members[part], leaders[part])
        similar = similar[matched[similar]]
        self.clusters.join(members[similar], leaders[similar])
        return matched

    def _estimate(self, members: Indices, leaders: Indices) -> NDArray[np.bool_]:
        """Return which documents may be near-duplicates of the earlier ones, by their signatures."""
        likely = np.zeros(len(members), np.bool_)
        for start in range(0, len(members), _ESTIMATED_AT_ONCE):
            part = slice(start, start + _ESTIMATED_AT_ONCE)
            equal = self.sketches.signatures[members[part]] == self.sketches.signatures[leaders[part]]
            likely[part] = equal.mean(axis=1) >= _LEAST_ESTIMATE
        return likely

    def _compare(self, members: Indices, leaders: Indices) -> NDArray[np.bool_]:
        """Return which documents are near-duplicates of the earlier ones, by exact comparison, and record
        which of them repeat the earlier ones."""
        pairs = list(zip(members.tolist(), leaders.tolist(), strict=True))
        keys = [member * len(self.documents) + leader for member, leader in pairs]
        results = [self._compared.get(key) for key in keys]
        new = [pair for pair, result in zip(pairs, results, strict=True) if result is None]
        read = sorted({index for pair in new for index in pair})
        words = Words.of(self.documents[i] for i in read)
        sets = dict(zip(read, shingle_sets(words), strict=True))
        answers = dict(zip(read, shingle_sets(words.without_prompts()), strict=True))
        if len(self._compared) > _MOST_COMPARED:
            self._compared.clear()
        for place, (member, leader) in enumerate(pairs):
            if results[place] is not None:
                continue
            similar = are_similar(sets[member], sets[leader], self.template)
            self._compared[keys[place]] = results[place] = similar
            if similar and jaccard(answers[member], answers[leader]) >= MIN_ANSWER_SIMILARITY:
                self.repeated[member] = leader
        return np.array(results, np.bool_)


def _buckets(keys: NDArray[np.unsignedinteger], members: Indices) -> tuple[Indices, Indices]:
    """Return the members whose key other members have too, and the bucket of each. They are sorted by bucket
    and index."""
    of_members = keys[members]
    order = np.argsort(of_members, kind="stable")
    ordered = of_members[order]
    equal = ordered[1:] == ordered[:-1]
    kept = np.zeros(len(order), np.bool_)
    kept[1:] |= equal
    kept[:-1] |= equal
    buckets = np.cumsum(np.concatenate([np.zeros(1, np.bool_), ~equal]))[: len(order)]
    return members[order[kept]], buckets[kept]


def _leaders(members: Indices, buckets: Indices) -> tuple[Indices, NDArray[np.bool_]]:
    """Return the first member of each member's bucket, and which members are the first ones."""
    is_leader = np.ones(len(members), np.bool_)
    is_leader[1:] = buckets[1:] != buckets[:-1]
    return members[is_leader][np.cumsum(is_leader) - 1], is_leader
