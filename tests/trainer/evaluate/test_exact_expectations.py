"""Golden cases can compare outputs without trimming, by lower case, with patterns of JavaScript, and by the
answer in an output."""

from typing import Any

import pytest
from pydantic import ValidationError

from support.golden_outcomes import outcome
from tunegate_api.cases.golden import GoldenCase


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
        ({"type": "equals", "value": "$5 +", "normalize": ["AsciiPunctuation"]}, "5 ", "p"),
        ({"type": "equals", "value": "5", "normalize": ["AsciiPunctuation"]}, "5…", "f"),
        ({"type": "equals", "value": "4", "until": ["\n\n", "Q:"]}, "4\nQ: 5", "p"),
        ({"type": "equals", "value": "4", "until": ["\n\n", "Q:"]}, "4 Q 5", "f"),
        ({"type": "equals", "value": "1000", "ignore": [",", r"\.$"]}, "1,000.", "p"),
        ({"type": "equals", "value": "1,000", "ignore": [","]}, "1,000", "f"),
    ],
)
def test_an_output_is_compared_exactly(expectation: dict[str, Any], output: str, expected: str) -> None:
    assert outcome(case(**expectation), output) == expected


@pytest.mark.parametrize(
    ("extract", "output", "expected"),
    [
        ({"pattern": "#### (.+)"}, "2 + 2\n#### 4 \n", "p"),
        ({"pattern": "#### (.+)"}, "4", "f"),
        ({"pattern": r"\d+"}, "4 or 5", "p"),
        ({"pattern": r"\d+", "match": "Last"}, "4 or 5", "f"),
        ({"pattern": r"\d+", "match": "Last"}, "5 or 4", "p"),
        ({"pattern": "a(4)|b(4)"}, "b4", "p"),
    ],
)
def test_an_answer_is_extracted_and_compared(extract: dict[str, str], output: str, expected: str) -> None:
    assert outcome(case(type="equals", value="4", extract=extract), output) == expected


def test_an_answer_is_cut_then_extracted_then_cleaned() -> None:
    one = case(
        type="equals",
        value="1000 eur",
        until=["Q:"],
        extract={"pattern": "= (.+)", "match": "Last"},
        ignore=[","],
        normalize=["LowerCase"],
    )
    assert [outcome(one, text) for text in ("x = 1,000 EUR Q: y = 2", "x = 2 Q: y = 1,000 EUR")] == ["p", "f"]


@pytest.mark.parametrize(
    ("expectation", "message"),
    [
        ({"type": "contains", "value": "a", "trim": False}, "trim: not allowed for contains"),
        ({"type": "equals", "value": "a", "dialect": "JavaScript"}, "dialect: only allowed for regex"),
        (
            {"type": "regex", "value": "(?i)a", "dialect": "JavaScript"},
            "regular expression of JavaScript: unknown",
        ),
        ({"type": "contains", "value": "a", "until": ["b"]}, "only allowed for equals"),
        ({"type": "equals", "value": "a", "extract": {"pattern": "("}}, "extract.pattern: not a valid"),
        ({"type": "equals", "value": "a", "ignore": ["b", "["]}, "ignore.1: not a valid"),
    ],
)
def test_a_setting_without_effect_is_refused(expectation: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        GoldenCase.model_validate(case(**expectation))
