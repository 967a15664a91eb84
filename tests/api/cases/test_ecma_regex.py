"""Regular expressions of JavaScript are translated to Python, or refused with a reason."""

import re

import pytest

from tunegate_api.cases.ecma_regex import EcmaRegexError, code_units, python_pattern


def matches(pattern: str, text: str) -> bool:
    return re.search(python_pattern(pattern), code_units(text)) is not None


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (r"^\d+$", "42", True),
        (r"^\d+$", "٤٢", False),  # JavaScript's \d has only ASCII digits
        (r"^\d+$", "42\n", False),  # its $ is only the end of the text
        (r"^\w+$", "naïve", False),
        (r"\bé", "é", False),
        (r"^\s$", "\ufeff", True),
        (r"^\s$", "\x1c", False),
        (r"a.b", "a\u2028b", False),
        (r"^.$", "😀", False),  # two UTF-16 code units
        (r"^..$", "😀", True),
        (r"^[^x]{2}$", "😀", True),
        (r"a[^]b", "a\nb", True),
        (r"[]", "a", False),
        (r"x{,3}", "x{,3}", True),
        (r"x{,3}", "xxx", False),
        (r"(?<year>\d{4})", "2024", True),
        (r"[.-9]", "5", True),
        (r"\B", "", True),
        (r"[\b]", "\b", True),
        (r"\cI\0", "\t\0", True),
    ],
)
def test_a_pattern_matches_as_in_javascript(pattern: str, text: str, expected: bool) -> None:
    assert matches(pattern, text) is expected


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(", "cannot be translated"),
        (")", "unmatched parenthesis"),
        ("*a", "nothing to repeat"),
        ("a*+", "nothing to repeat"),
        ("(?i)a", "unknown group"),
        ("(?P<n>a)", "unknown group"),
        (r"(a)\1", "back reference"),
        (r"\p{L}", r"\p is not supported"),
        (r"\x4", r"\x is not supported"),
        ("[b-a]", "out of order"),
        ("[a", "a class has no end"),
        (r"[\d-z]", "a range between classes"),
        ("a{2,1}", "numbers out of order"),
        ("(?<=a+)b", "cannot be translated"),
        ("(?=a)*", "repeated assertion"),
        ("a\\", "at the end"),
    ],
)
def test_a_pattern_without_an_exact_translation_is_refused(pattern: str, reason: str) -> None:
    with pytest.raises(EcmaRegexError, match=re.escape(reason)):
        python_pattern(pattern)
