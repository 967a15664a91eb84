"""Translate regular expressions of JavaScript, without flags, to Python (ECMA-262, 2024, section 22.2).

JavaScript matches UTF-16 code units, so match a translated pattern with :func:`code_units` of a text.
"""

import re
from array import array
from collections.abc import Iterator

Ranges = list[tuple[int, int]]
"""First and last code units of the characters of a class."""

_LAST = 0xFFFF
_DIGITS: Ranges = [(0x30, 0x39)]
_WORDS: Ranges = [(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)]
_SPACES: Ranges = [
    (0x09, 0x0D),
    (0x20, 0x20),
    (0xA0, 0xA0),
    (0x1680, 0x1680),
    (0x2000, 0x200A),
    (0x2028, 0x2029),
    (0x202F, 0x202F),
    (0x205F, 0x205F),
    (0x3000, 0x3000),
    (0xFEFF, 0xFEFF),
]
_LINE_ENDS: Ranges = [(0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029)]
_CONTROLS = {"t": 0x09, "n": 0x0A, "v": 0x0B, "f": 0x0C, "r": 0x0D}
_BOUNDARIES = {"b": r"(?a:\b)", "B": r"(?!(?a:\b))"}
_GROUP = re.compile(r"\((?:\?(?::|=|!|<=|<!|<(?P<name>[A-Za-z_$][A-Za-z0-9_$]*)>))?")
_QUANTIFIER = re.compile(r"(?:[*+?]|\{(?P<least>[0-9]+)(?:,(?P<most>[0-9]*))?\})\??")
_CODE = re.compile(r"x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|c([A-Za-z])|0(?![0-9])")


class EcmaRegexError(ValueError):
    """A pattern is invalid in JavaScript, or has a part that cannot be translated exactly."""


def code_units(text: str) -> str:
    """Return ``text`` with each UTF-16 code unit as one character."""
    if text.isascii() or max(text) <= "\uffff":
        return text
    return "".join(map(chr, array("H", text.encode("utf-16-le", "surrogatepass"))))


def python_pattern(pattern: str) -> str:
    """Return a Python pattern that matches in the code units of the same texts.

    Raises :class:`EcmaRegexError`.
    """
    translated = "".join(_translated(code_units(pattern)))
    try:
        re.compile(translated)
    except (re.error, OverflowError, RecursionError) as error:
        raise EcmaRegexError(f"cannot be translated to Python: {error}") from error
    return translated


def _translated(pattern: str) -> Iterator[str]:
    at, repeatable = 0, False
    """``repeatable``: whether a quantifier may follow."""
    opened: list[bool] = []
    """Whether each open group may be followed by a quantifier."""
    while at < len(pattern):
        character = pattern[at]
        quantifier = _QUANTIFIER.match(pattern, at)
        if quantifier:
            if not repeatable:
                raise EcmaRegexError(f"nothing to repeat at position {at}, or a repeated assertion")
            _check_order(quantifier)
            yield quantifier[0]
            at, repeatable = quantifier.end(), False
        elif character == "\\":
            text, at, repeatable = _escape(pattern, at + 1)
            yield text
        elif character == "[":
            text, at = _class(pattern, at + 1)
            repeatable = True
            yield text
        elif character == "(":
            group = _GROUP.match(pattern, at)
            if not group or pattern[group.end() - 1 : group.end() + 1] == "(?":
                raise EcmaRegexError(f"unknown group at position {at}")
            yield group[0].replace("(?<", "(?P<") if group["name"] else group[0]
            opened.append(group[0] in {"(", "(?:"} or group["name"] is not None)
            at, repeatable = group.end(), False
        elif character == ")":
            if not opened:
                raise EcmaRegexError(f"unmatched parenthesis at position {at}")
            yield character
            at, repeatable = at + 1, opened.pop()
        else:
            yield {"|": "|", "^": "^", "$": r"\Z", ".": _complement_text(_LINE_ENDS)}.get(
                character, re.escape(character)
            )
            at, repeatable = at + 1, character not in "|^$"


def _check_order(quantifier: re.Match[str]) -> None:
    if quantifier["most"] and int(quantifier["most"]) < int(quantifier["least"]):
        raise EcmaRegexError(f"numbers out of order in {quantifier[0]}")


def _escape(pattern: str, at: int) -> tuple[str, int, bool]:
    """Return the translation of an escape outside of a class, the position after it, and whether a quantifier
    may follow."""
    if pattern[at : at + 1] in _BOUNDARIES:
        return _BOUNDARIES[pattern[at]], at + 1, False
    ranges, at = _escaped(pattern, at)
    return _class_text(ranges), at, True


def _escaped(pattern: str, at: int) -> tuple[Ranges, int]:
    """Return the characters that an escape stands for, and the position after it."""
    if at >= len(pattern):
        raise EcmaRegexError("\\ at the end")
    code = _CODE.match(pattern, at)
    if code:
        found = code[1] or code[2]
        value = int(found, 16) if found else ord(code[3]) % 32 if code[3] else 0
        return [(value, value)], code.end()
    character = pattern[at]
    sets = {"d": _DIGITS, "w": _WORDS, "s": _SPACES}
    if character.lower() in sets:
        ranges = sets[character.lower()]
        return (ranges if character.islower() else _complement(ranges)), at + 1
    if character in "123456789":
        raise EcmaRegexError(f"the back reference \\{character} is not supported")
    if character in "0xuckpP":
        raise EcmaRegexError(f"\\{character} is not supported")
    value = _CONTROLS.get(character, ord(character))
    return [(value, value)], at + 1


def _class(pattern: str, at: int) -> tuple[str, int]:
    """Return the translation of a class, and the position after it."""
    negated = pattern[at : at + 1] == "^"
    at += negated
    ranges: Ranges = []
    while pattern[at : at + 1] != "]":
        first, at = _class_atom(pattern, at)
        if pattern[at : at + 1] == "-" and pattern[at + 1 : at + 2] not in {"]", ""}:
            last, at = _class_atom(pattern, at + 1)
            if len(first) == len(last) == 1 and first[0][0] == first[0][1] and last[0][0] == last[0][1]:
                if first[0][0] > last[0][0]:
                    raise EcmaRegexError("a range in a class is out of order")
                ranges.append((first[0][0], last[0][0]))
            else:
                raise EcmaRegexError("a range between classes of characters is not supported")
        else:
            ranges += first
    return _class_text(_complement(ranges) if negated else ranges), at + 1


def _class_atom(pattern: str, at: int) -> tuple[Ranges, int]:
    if at >= len(pattern):
        raise EcmaRegexError("a class has no end")
    if pattern[at] != "\\":
        return [(ord(pattern[at]), ord(pattern[at]))], at + 1
    if pattern[at + 1 : at + 2] == "b":
        return [(0x08, 0x08)], at + 2
    if pattern[at + 1 : at + 2] == "B":
        raise EcmaRegexError("\\B in a class is not supported")
    return _escaped(pattern, at + 1)


def _complement(ranges: Ranges) -> Ranges:
    found: Ranges = []
    start = 0
    for first, last in sorted(ranges):
        if first > start:
            found.append((start, first - 1))
        start = max(start, last + 1)
    return [*found, (start, _LAST)] if start <= _LAST else found


def _complement_text(ranges: Ranges) -> str:
    return _class_text(_complement(ranges))


def _class_text(ranges: Ranges) -> str:
    if not ranges:
        return "(?!)"
    if len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
        return re.escape(chr(ranges[0][0]))
    return f"[{''.join(f'{_unit(first)}-{_unit(last)}' for first, last in ranges)}]"


def _unit(code: int) -> str:
    return chr(code) if chr(code).isascii() and chr(code).isalnum() else f"\\u{code:04x}"
