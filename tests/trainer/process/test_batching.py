"""Batches of rows are limited in number and in size."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunegate_trainer.data.shingles import Words, batches
from tunegate_trainer.process.batching import balanced, batched


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
def test_batch_has_at_most_3_items_and_size_10(sizes, expected):
    assert list(batched(iter(sizes), 3, lambda size: size, 10)) == expected


def test_few_long_documents_are_hashed_at_a_time():
    documents = [("a " * 1_000_000, "b" * 1_000_000)] * 7
    found = list(batches(documents))
    assert [len(words) for words in found] == [2, 2, 2, 1]
    assert found[3].keys() == Words.of(documents[:1]).keys()


SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=24)


@given(SIZES, st.integers(1, 100))
def test_balanced_groups_have_every_item_once_within_the_limit(sizes, most):
    groups = balanced(sizes, most)
    assert sorted(i for group in groups for i in group) == list(range(len(sizes)))
    assert all(len(group) == 1 or sum(sizes[i] for i in group) <= most for group in groups)


@given(SIZES, st.integers(1, 24))
def test_balanced_groups_are_no_more_than_groups_of_equal_count(sizes, number):
    most = sum(sorted(sizes, reverse=True)[:number])
    assert len(balanced(sizes, most)) <= math.ceil(len(sizes) / number)


@given(SIZES, st.integers(1, 100), st.integers(1, 24))
def test_requested_number_of_balanced_groups_is_exact(sizes, most, requested):
    needed = len(balanced(sizes, most))
    assert len(balanced(sizes, most, requested)) == min(len(sizes), max(needed, requested))
