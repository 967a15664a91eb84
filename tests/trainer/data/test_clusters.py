"""Documents that are linked, directly or through others, are in one cluster, which its first one names."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tunegate_trainer.data.clusters import Clusters

links = st.lists(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=8), max_size=4)


@given(links)
def test_each_document_has_the_first_one_of_its_cluster(rounds):
    clusters = Clusters(12)
    expected = list(range(12))
    for pairs in rounds:
        both = np.array(pairs, np.int64).reshape(-1, 2)
        clusters.join(both[:, 0], both[:, 1])
        for one, other in pairs:
            low, high = sorted((expected[one], expected[other]))
            expected = [low if first == high else first for first in expected]
        assert clusters.first.tolist() == expected
