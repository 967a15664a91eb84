"""Golden cases can compare outputs without trimming, by lower case, and with patterns of JavaScript."""

from typing import Any

import pytest
from pydantic import ValidationError

from support.golden_outcomes import outcome
from tunegate_api.judging.golden import GoldenCase


def case(**expectation: Any) -> dict[str, Any]:
    return {"id": "case", "prompt": "?", "expect": [expectation]}


@pytest.mark.parametrize(
    ("expectation", "output", "expected"),
    [
        ({"type": "equals", "value": "yes"}, " yes\n", "p"),
        ({"type": "equals", "value": "yes", "trim": False}, "yes\n", "f"),
        ({"type": "equals", "value": "yes\n", "trim": False}, "yes\n", "p"),
        ({"type": "starts_with", "value": " yes", "trim": False}, "yes", "f"),
        ({"type": "starts_with", "value": " yes", "trim": False}, " yes, sure", "p"),
        ({"type": "regex", "value": "^yes", "trim": False}, " yes", "f"),
        ({"type": "contains", "value": "ss", "normalize": ["Case"]}, "straße", "p"),
        ({"type": "contains", "value": "ss", "normalize": ["LowerCase"]}, "straße", "f"),
        ({"type": "contains", "value": "SS", "normalize": ["LowerCase"]}, "grosse", "p"),
        ({"type": "regex", "value": r"^\d+$", "dialect": "JavaScript"}, "٤٢", "f"),
        ({"type": "regex", "value": r"^\d+$"}, "٤٢", "p"),
        ({"type": "regex", "value": "^.{2}$", "dialect": "JavaScript"}, "😀", "p"),
        ({"type": "regex", "value": "^strasse$", "normalize": ["Case"]}, "Straße", "p"),
        ({"type": "regex", "value": "^Strasse$", "normalize": ["Case"]}, "Strasse", "f"),
    ],
)
def test_an_output_is_compared_exactly(expectation: dict[str, Any], output: str, expected: str) -> None:
    assert outcome(case(**expectation), output) == expected


@pytest.mark.parametrize(
    ("expectation", "message"),
    [
        ({"type": "contains", "value": "a", "trim": False}, "trim: not allowed for contains"),
        ({"type": "equals", "value": "a", "dialect": "JavaScript"}, "dialect: only allowed for regex"),
        (
            {"type": "regex", "value": "(?i)a", "dialect": "JavaScript"},
            "regular expression of JavaScript: unknown",
        ),
    ],
)
def test_a_setting_without_effect_is_refused(expectation: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        GoldenCase.model_validate(case(**expectation))
