"""Durations for people."""

import pytest

from tunegate_api.duration import duration_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(12.4, "12 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (-3, "0 s")],
)
def test_durations_are_formatted_for_people(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
