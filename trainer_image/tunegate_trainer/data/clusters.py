"""Clusters of documents: a union-find structure in one array, so that a million documents need 8 MB."""

import numpy as np
from numpy.typing import NDArray

from tunegate_trainer.data.shingles import Indices


class Clusters:
    """The clusters of documents. At first, each document is a cluster of its own."""

    def __init__(self, total: int) -> None:
        self.first: Indices = np.arange(total)
        """For each document, the first one of its cluster."""

    def join(self, documents: Indices, others: Indices) -> None:
        """Join the cluster of each document with that of the other one."""
        while True:
            pairs = np.stack([self.first[documents], self.first[others]])
            pairs = pairs[:, pairs[0] != pairs[1]]
            if not pairs.size:
                return
            np.minimum.at(self.first, pairs.max(axis=0), pairs.min(axis=0))
            while not np.array_equal(first := self.first[self.first], self.first):
                self.first = first

    def joined(self, documents: Indices, others: Indices) -> NDArray[np.bool_]:
        """Return which documents are in the cluster of the other one."""
        equal: NDArray[np.bool_] = self.first[documents] == self.first[others]
        return equal
