"""Messages in status: long lists are shortened, and control characters are escaped."""

import pytest
from pydantic import ValidationError

from tunegate_api.meta import MAX_MESSAGE, summarize
from tunegate_api.v1alpha2.finetunejob_status import Failure


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


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\x00\x07\r\x7f\x9b", "a\\x00\\x07\\x0d\\x7f\\x9b"),
        ("abc\u202edef\ud800", "abc\\u202edef\\ud800"),
        ("a\n\tb \u00a0\u3000\u200d\u2028é", "a\n\tb \u00a0\u3000\u200d\u2028é"),
    ],
)
def test_control_characters_in_messages_are_escaped(given: str, shown: str) -> None:
    assert Failure(reason="BadData", message=given, hint=given) == Failure(
        reason="BadData", message=shown, hint=shown
    )
    assert len(Failure(reason="BadData", message=given * MAX_MESSAGE).message) == MAX_MESSAGE


def test_message_of_another_type_is_a_validation_error() -> None:
    with pytest.raises(ValidationError, match="valid string"):
        Failure.model_validate({"reason": "BadData", "message": 5})
