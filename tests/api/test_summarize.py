"""Long lists in messages."""

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
def test_items_after_the_first_are_counted(names: list[str], text: str) -> None:
    assert summarize(names, 2) == text


def test_items_that_were_never_listed_are_counted_too() -> None:
    assert summarize(["a", "b"], 5, total=9) == "a, b and 7 more"


def test_separators_are_the_callers() -> None:
    assert summarize(["a b", "c d", "e"], 2, separator="; ", last="; and ") == "a b; c d; and 1 more"
