"""Regular expressions that match no output, such as ``x^2``, in which ``^`` is not escaped."""

import re
import string
from collections.abc import Iterable, Iterator, Sequence

# The parser of Python's regular expressions has no public name since sre_parse is deprecated.
from re import _parser  # type: ignore[attr-defined]
from typing import Any

from tunegate_api.cases.ecma_regex import python_pattern
from tunegate_api.cases.expectations import TextExpectation
from tunegate_trainer.evaluate.contradictions.conditions import Condition

_UPPER = {ord(letter) for letter in string.ascii_uppercase}
_LINE_FEED = 10


def pattern_contradictions(conditions: Sequence[Condition]) -> Iterator[str]:
    """Find regular expressions that match no output."""
    for condition in conditions:
        leaf = condition.leaf
        if isinstance(leaf, TextExpectation) and leaf.type == "regex" and not condition.negated:
            pattern = leaf.value if leaf.dialect == "Python" else python_pattern(leaf.value)
            if matches_nothing(pattern):
                yield f"{condition}, which matches no text"
            elif leaf.normalize and matches_nothing(pattern, is_lower=True):
                yield f"{condition}, which matches no text in lower case"


def matches_nothing(pattern: str, *, is_lower: bool = False) -> bool:
    """Whether it is certain that a regular expression of Python matches in no text. ``is_lower``: the text
    has no capital letters of ASCII."""
    parsed = _parser.parse(pattern)
    return _fails(parsed, is_lower=is_lower and not parsed.state.flags & re.IGNORECASE)


def _fails(parts: Iterable[tuple[Any, Any]], *, is_lower: bool) -> bool:
    """Whether a sequence of parsed parts never matches: one of them does not, or two of them exclude each
    other."""
    before: tuple[str, Any] = ("", None)
    for code, value in parts:
        part = (code.name, value)
        if _part_fails(*part, is_lower=is_lower) or _exclude(before, part):
            return True
        before = part
    return False


def _part_fails(name: str, value: Any, *, is_lower: bool) -> bool:
    match name, value:
        case "FAILURE", _:
            return True
        case "ASSERT_NOT", (_, inner):
            return not inner
        case "LITERAL", code:
            return is_lower and code in _UPPER
        case "IN", items:
            return is_lower and all(_is_upper(item.name, code) for item, code in items)
        case "BRANCH", (_, branches):
            return all(_fails(branch, is_lower=is_lower) for branch in branches)
        case "SUBPATTERN", (_, flags, _, inner):
            return _fails(inner, is_lower=is_lower and not flags & re.IGNORECASE)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT", (least, _, inner):
            return bool(least) and _fails(inner, is_lower=is_lower)
        case "ASSERT", (_, inner):
            return _fails(inner, is_lower=is_lower)
        case "ATOMIC_GROUP", inner:
            return _fails(inner, is_lower=is_lower)
        case _:
            return False


def _is_upper(name: str, value: Any) -> bool:
    """Whether an item of a class of characters has only capital letters of ASCII."""
    return (name == "LITERAL" and value in _UPPER) or (name == "RANGE" and {*value} <= _UPPER)


def _exclude(one: tuple[str, Any], other: tuple[str, Any]) -> bool:
    """Whether a character is directly before the start of a line, or directly after the end of a line. Only a
    line feed can be there."""
    match one, other:
        case ("LITERAL", code), ("AT", at):
            return code != _LINE_FEED and at.name in {"AT_BEGINNING", "AT_BEGINNING_STRING"}
        case ("AT", at), ("LITERAL", code):
            return code != _LINE_FEED and at.name in {"AT_END", "AT_END_STRING"}
        case _:
            return False
