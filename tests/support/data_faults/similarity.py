"""Exact similarity of texts, computed for every pair, as a ground truth that does not depend on MinHash."""

import re
from collections.abc import Callable, Sequence

import numpy as np
from scipy.sparse import csr_matrix, triu  # type: ignore[import-untyped]

MOST_SIMILAR = 0.5
"""Two rows of a clean set have a lower Jaccard similarity than this, in three-word and in five-character
shingles."""
PASSAGE_WORDS = 13
"""Two rows of a clean set have no run of this many words in common."""

Shingles = Callable[[str], set[str]]


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation."""
    return re.findall(r"\w+", text.lower())


def word_shingles(text: str, length: int = 3) -> set[str]:
    """Return all runs of ``length`` words; a shorter text is one run."""
    words = words_of(text)
    return {" ".join(words[i : i + length]) for i in range(max(1, len(words) - length + 1))}


def character_shingles(text: str, length: int = 5) -> set[str]:
    """Return all runs of ``length`` characters of the words of a text."""
    joined = " ".join(words_of(text))
    return {joined[i : i + length] for i in range(max(1, len(joined) - length + 1))}


def jaccard(first: str, second: str, shingles: Shingles = word_shingles) -> float:
    """Return the share of the shingles of two texts that both have."""
    one, other = shingles(first), shingles(second)
    return len(one & other) / len(one | other)


def similar_pairs(
    texts: Sequence[str], low: float, shingles: Shingles = word_shingles
) -> dict[tuple[int, int], float]:
    """Return the pairs of indices whose Jaccard similarity is at least ``low``, and the similarity."""
    common, sizes = _common(texts, shingles)
    similarity = common.data / (sizes[common.row] + sizes[common.col] - common.data)
    found = similarity >= low
    pairs = zip(
        common.row[found].tolist(), common.col[found].tolist(), similarity[found].tolist(), strict=True
    )
    return {(first, second): value for first, second, value in sorted(pairs)}


def distinct(texts: Sequence[str]) -> list[int]:
    """Return the indices of texts that are not similar to each other; of two similar ones, the first."""
    earlier: dict[int, list[int]] = {}
    for shingles in (word_shingles, character_shingles):
        for first, second in similar_pairs(texts, MOST_SIMILAR, shingles):
            earlier.setdefault(second, []).append(first)
    passages, _ = _common(texts, lambda text: word_shingles(text, PASSAGE_WORDS))
    for first, second in zip(passages.row.tolist(), passages.col.tolist(), strict=True):
        earlier.setdefault(second, []).append(first)
    kept: dict[int, None] = {}
    for i in range(len(texts)):
        if not any(first in kept for first in earlier.get(i, ())):
            kept[i] = None
    return list(kept)


def _common(texts: Sequence[str], shingles: Shingles) -> tuple[csr_matrix, np.ndarray]:
    """Return how many shingles each pair of texts has in common (i < j), and how many each text has."""
    columns: dict[str, int] = {}
    indices: list[int] = []
    starts = [0]
    for text in texts:
        indices += [columns.setdefault(shingle, len(columns)) for shingle in shingles(text)]
        starts.append(len(indices))
    ones = np.ones(len(indices), dtype=np.int32)
    matrix = csr_matrix((ones, indices, starts), shape=(len(texts), len(columns)))
    return triu(matrix @ matrix.T, k=1, format="coo"), np.diff(starts)
