"""Shortening of long lists in messages."""

import pytest

from tunegate_api.meta import summarize


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a, b"),
        (["a", "b", "c"], "a, b and 1 more"),
        (["a", "b", "c", "d"], "a, b and 2 more"),
    ],
)
def test_summary_counts_items_beyond_the_limit(names: list[str], text: str) -> None:
    assert summarize(names, 2) == text


def test_summary_counts_omitted_items_up_to_the_given_total() -> None:
    assert summarize(["a", "b"], 5, total=9) == "a, b and 7 more"


def test_summary_uses_given_separators() -> None:
    assert summarize(["a b", "c d", "e"], 2, separator="; ", last="; and ") == "a b; c d; and 1 more"
