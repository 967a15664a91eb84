"""Error messages of trackers contain no credentials."""

import pytest

from tunegate_trainer.tracking.__main__ import MESSAGE_LENGTH, message_of


@pytest.mark.parametrize("before", [0, MESSAGE_LENGTH - 5], ids=["whole", "at the length limit"])
def test_error_message_contains_no_part_of_a_credential(before: int) -> None:
    message = message_of(ValueError("x" * before + "right-token was refused"), ["right-token"])
    assert "right" not in message
    assert len(message) <= len("ValueError: ") + MESSAGE_LENGTH


def test_error_message_is_cut_after_its_first_line() -> None:
    assert message_of(ValueError("\n502 from the proxy\n<html>"), []) == "ValueError: 502 from the proxy"
    assert message_of(ValueError(), []) == "ValueError: "
