"""Compare the lengths and the vocabulary of training inputs with those of production inputs."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp  # type: ignore[import-untyped]

PERCENTILES = (5, 50, 95)
_BINS = 20
_SHOWN_PERCENTILE = 99


@dataclass(frozen=True)
class InputLengths:
    """The lengths in tokens of training inputs and production inputs."""

    training: dict[int, float]
    """The lengths at :data:`PERCENTILES`."""
    production: dict[int, float]
    distance: float
    """The largest difference between the two cumulative distributions: the statistic of the two-sample
    Kolmogorov-Smirnov test, 0 to 1."""
    p_value: float
    longer: float
    """The share of production inputs that are longer than every training input."""
    edges: list[float]
    """The edges of the bins of both histograms. The last bin also has all longer inputs."""
    training_counts: list[int]
    production_counts: list[int]

    @property
    def ratio(self) -> float:
        """The largest ratio between the two lengths at one of :data:`PERCENTILES`, at least 1."""
        both = [(self.training[p], self.production[p]) for p in PERCENTILES]
        return max(max(lengths) / max(1, min(lengths)) for lengths in both)

    @property
    def entry(self) -> dict[str, Any]:
        """The entry of data/report.json."""
        return {
            "percentiles": {"training": self.training, "production": self.production},
            "ks_distance": round(self.distance, 4),
            "ks_p_value": self.p_value,
            "longer_than_training": round(self.longer, 4),
            "bin_edges": self.edges,
            "training": self.training_counts,
            "production": self.production_counts,
        }


def compare_lengths(training: Sequence[int], production: Sequence[int]) -> InputLengths:
    """Compare lengths in tokens. Neither sample may be empty.

    The histograms end at the larger 99th percentile, so that one very long input leaves room for the others.
    """
    test = ks_2samp(training, production, method="asymp")
    end = max(np.percentile(lengths, _SHOWN_PERCENTILE) for lengths in (training, production))
    edges = np.unique(np.linspace(0, end, _BINS + 1).round(2))
    return InputLengths(
        training=_percentiles(training),
        production=_percentiles(production),
        distance=float(test.statistic),
        p_value=float(test.pvalue),
        longer=sum(length > max(training) for length in production) / len(production),
        edges=edges.tolist(),
        training_counts=_histogram(training, edges),
        production_counts=_histogram(production, edges),
    )


def _histogram(lengths: Sequence[int], edges: NDArray[np.float64]) -> list[int]:
    counts: list[int] = np.histogram(np.minimum(lengths, edges[-1]), edges)[0].tolist()
    return counts


def _percentiles(lengths: Sequence[int]) -> dict[int, float]:
    return dict(zip(PERCENTILES, np.percentile(lengths, PERCENTILES).round(1).tolist(), strict=True))


@dataclass(frozen=True)
class Vocabulary:
    """Shares of words that do not occur in training inputs. Every occurrence of a word counts."""

    production: float
    """The share of words of production inputs that do not occur in training inputs."""
    halves: float
    """The share of words of one half of the training inputs that do not occur in the other half."""
    unknown: list[str]
    """The most frequent words of production inputs that do not occur in training inputs. Words with digits,
    and words that only one input has, are left out, because they may be numbers or names of people."""

    @property
    def entry(self) -> dict[str, Any]:
        """The entry of data/report.json."""
        return {
            "production": round(self.production, 4),
            "between_training_halves": round(self.halves, 4),
            "most_frequent": self.unknown,
        }


def compare_vocabulary(
    training: Sequence[Sequence[str]], production: Sequence[Sequence[str]], most: int = 10
) -> Vocabulary:
    """Compare the words of training inputs and production inputs. Words without a letter do not count."""
    shuffled = list(training)
    random.Random(0).shuffle(shuffled)
    middle = len(shuffled) // 2
    unknown = _unknown(production, _known(training))
    inputs_with = Counter(word for words in production for word in set(words))
    shown = [word for word in unknown if inputs_with[word] > 1 and not any(map(str.isdigit, word))]
    counts = Counter(shown)
    return Vocabulary(
        production=_share(unknown, production),
        halves=_share(_unknown(shuffled[middle:], _known(shuffled[:middle])), shuffled[middle:]),
        unknown=sorted(counts, key=lambda word: (-counts[word], word))[:most],
    )


def _words(texts: Sequence[Sequence[str]]) -> list[str]:
    return [word for words in texts for word in words if any(map(str.isalpha, word))]


def _known(texts: Sequence[Sequence[str]]) -> set[str]:
    return set(_words(texts))


def _unknown(texts: Sequence[Sequence[str]], known: set[str]) -> list[str]:
    return [word for word in _words(texts) if word not in known]


def _share(unknown: Sequence[str], texts: Sequence[Sequence[str]]) -> float:
    return len(unknown) / max(1, len(_words(texts)))
