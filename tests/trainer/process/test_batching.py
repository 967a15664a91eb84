"""Batches of rows are limited in number and in size."""

import pytest

from tunegate_trainer.data.shingles import Words, batches
from tunegate_trainer.process.batching import batched


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([1, 1, 1, 1, 1], [[1, 1, 1], [1, 1]]),
        ([4, 6, 1], [[4, 6], [1]]),
        ([4, 7, 3], [[4], [7, 3]]),
        ([50, 1, 50, 50], [[50], [1], [50], [50]]),
    ],
)
def test_batch_has_at_most_3_items_of_a_total_size_of_10(sizes, expected):
    assert list(batched(iter(sizes), 3, lambda size: size, 10)) == expected


def test_few_long_documents_are_hashed_at_a_time():
    documents = [("a " * 1_000_000, "b" * 1_000_000)] * 7
    found = list(batches(documents))
    assert [len(words) for words in found] == [2, 2, 2, 1]
    assert found[3].keys() == Words.of(documents[:1]).keys()
