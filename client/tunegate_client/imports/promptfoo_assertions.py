"""Convert one assertion of promptfoo to an expectation that passes the same outputs."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tunegate_api.cases.ecma_regex import EcmaRegexError, python_pattern
from tunegate_client.imports.ajv import is_integer, is_plain_json, portable_schema
from tunegate_client.imports.imported import NotCarriedError
from tunegate_client.imports.javascript import WHITE_SPACE, load_yaml, read_text, text_of, trimmed
from tunegate_client.imports.nunjucks import rendered
from tunegate_client.imports.promptfoo_types import REFUSED

Fields = Mapping[str, Any]
Expectation = dict[str, Any]

_MINUS_ZERO = r"(?<![eE])-0(?:\.0+)?(?![0-9.])"
"""Matches a number -0 in JSON, and similar parts of texts."""


@dataclass(frozen=True)
class Scope:
    """What the values of assertions may refer to."""

    variables: Fields
    folder: Path
    """The folder of the configuration."""


def expectation_of(assertion: Fields, scope: Scope) -> Expectation:
    """Return the expectation of an assertion that is no set. Raises :class:`NotCarriedError`."""
    kind = str(assertion.get("type"))
    base = kind.removeprefix("not-")
    if base.startswith("promptfoo:redteam"):
        raise NotCarriedError(kind, "asks a model to judge, which is not deterministic")
    if base not in _CONVERTERS:
        raise NotCarriedError(kind, REFUSED.get(base, "is not an assertion type of promptfoo 0.123"))
    if assertion.get("transform") is not None:
        raise NotCarriedError(kind, "transform: runs code on the output")
    try:
        value = _value(assertion.get("value"), scope)
        found = _CONVERTERS[base](value, assertion)
    except NotCarriedError as error:
        raise NotCarriedError(kind, error.reason) from error
    return negated(found) if kind != base else found


def negated(expectation: Expectation) -> Expectation:
    """Return the opposite of an expectation."""
    return {**expectation, "not": True}


def group(type_: str, of: Sequence[Expectation], least: int | None = None) -> Expectation:
    """Return a group of expectations, or the only expectation."""
    if len(of) == 1:
        return of[0]
    is_default = type_ == "all" or least in {None, 1}
    return {"type": type_, "of": list(of)} | ({} if is_default else {"min": least})


def _value(value: Any, scope: Scope) -> Any:
    if isinstance(value, str):
        return _text_value(value, scope)
    if isinstance(value, list):
        return [_text_value(each, scope) if isinstance(each, str) else each for each in value]
    return value


def _text_value(value: str, scope: Scope) -> Any:
    if value.startswith("package:"):
        raise NotCarriedError("value", "runs code of a package")
    if value.startswith("file://"):
        return file_value(value, scope.folder)
    return rendered(value, scope.variables)


def file_value(reference: str, folder: Path) -> Any:
    """Return the content of a file that a value refers to: text, JSON or YAML."""
    path = folder / reference.removeprefix("file://")
    if path.suffix not in {".txt", ".json", ".yaml", ".yml"} or ":" in reference.removeprefix("file://"):
        raise NotCarriedError("value", "only files with the extensions txt, json and yaml are read")
    try:
        text = read_text(path)
        return trimmed(text) if path.suffix == ".txt" else load_yaml(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise NotCarriedError(
            "value", f"{reference} cannot be read: {' '.join(str(error).split())}"
        ) from error


def _refused(reason: str) -> NotCarriedError:
    return NotCarriedError("value", reason)


def _equals(value: Any, assertion: Fields) -> Expectation:
    del assertion
    if isinstance(value, Mapping | list):
        return _json_equals(value)
    text = text_of(value)
    if text is None:
        raise _refused("the value is missing, or a number or date that cannot be compared exactly")
    if not text:
        return {"type": "regex", "value": "^$", "dialect": "JavaScript", "trim": False}
    return {"type": "equals", "value": text, "trim": False}


def _json_equals(value: Any) -> Expectation:
    """JavaScript distinguishes 0 from -0, which no expected value has."""
    if not is_plain_json(value):
        raise _refused("the value has an integer of more than 53 bits, a date or another special value")
    expected = {"type": "json_equals", "value": value}
    texts, has_zero = _content(value)
    if not has_zero:
        return expected
    if any("-0" in each for each in texts):
        raise _refused("the value has the number 0 and a text with -0")
    without_minus = negated({"type": "regex", "value": _MINUS_ZERO})
    return group("all", [expected, without_minus])


def _content(value: Any) -> tuple[list[str], bool]:
    """Return all texts in a JSON value, and whether it has the number 0."""
    if isinstance(value, str):
        return [value], False
    if isinstance(value, Mapping):
        inner = [_content(each) for each in (*value, *value.values())]
    elif isinstance(value, list):
        inner = [_content(each) for each in value]
    else:
        return [], value is not None and not isinstance(value, bool) and value == 0
    return [text for texts, _ in inner for text in texts], any(zero for _, zero in inner)


def _contains(value: Any, *, ignore_case: bool) -> Expectation:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _refused("the value must be a text or a number")
    return _contains_text(value, ignore_case=ignore_case)


def _contains_text(value: Any, *, ignore_case: bool) -> Expectation:
    text = "null" if value is None else text_of(value)
    if text is None:
        raise _refused("a value is not a text, a boolean or a number with the same text in JavaScript")
    if not text:
        raise _refused("the value is empty")
    return {"type": "contains", "value": text} | ({"normalize": ["LowerCase"]} if ignore_case else {})


def _contains_several(value: Any, type_: str, *, ignore_case: bool) -> Expectation:
    values = comma_separated(value) if isinstance(value, str) else value
    if not isinstance(values, list) or not values:
        raise _refused("the value must be a list of texts, or texts separated by commas")
    if type_ == "all":  # every output contains an empty text
        values = [each for each in values if each != ""]
    if not values or "" in values:
        raise _refused("a value is empty, so every output passes")
    return group(type_, [_contains_text(each, ignore_case=ignore_case) for each in values])


_BETWEEN = re.compile(f"[{WHITE_SPACE},]*")
_QUOTED = re.compile(r'"((?:\\["\\]|""|[^"\\]|\\(?!["\\]))*)"' + f"[{WHITE_SPACE}]*(?=,|\\Z)", re.DOTALL)
_UNQUOTED = re.compile("[^,]*", re.DOTALL)
_ESCAPED = re.compile(r'\\(["\\])|"(")')


def comma_separated(text: str) -> list[str]:
    """Return the fields of a text as promptfoo separates them: by commas, with optional quotation marks."""
    found = []
    at = _between(text, 0)
    while at < len(text):
        if text[at] == '"':
            field = _QUOTED.match(text, at)
            if not field:
                raise _refused("a quoted field has no end, or text after it")
            found.append(_ESCAPED.sub(lambda match: match[1] or match[2], field[1]))
        else:
            field = _UNQUOTED.match(text, at)
            found.append(trimmed(field[0] if field else ""))
        at = _between(text, field.end() if field else len(text))
    return found


def _between(text: str, at: int) -> int:
    match = _BETWEEN.match(text, at)
    return match.end() if match else at


def _starts_with(value: Any, assertion: Fields) -> Expectation:
    del assertion
    if not isinstance(value, str) or not value:
        raise _refused("the value must be a text that is not empty")
    return {"type": "starts_with", "value": value, "trim": False}


def _regex(value: Any, assertion: Fields) -> Expectation:
    del assertion
    if not isinstance(value, str) or not value:
        raise _refused("the value must be a text that is not empty")
    try:
        python_pattern(value)
    except EcmaRegexError as error:
        raise _refused(f"{value!r}: {error}") from error
    return {"type": "regex", "value": value, "dialect": "JavaScript", "trim": False}


def _is_json(value: Any, assertion: Fields) -> Expectation:
    del assertion
    if isinstance(value, str) and value:
        try:
            value = load_yaml(value)
        except yaml.YAMLError as error:
            raise _refused("the schema is not YAML or JSON") from error
        if value is None:
            raise _refused("the schema is empty")
    if value is None or value == "":
        return {"type": "json_schema", "schema": {}}
    return {"type": "json_schema", "schema": portable_schema(value, "is-json")}


def _word_count(value: Any, assertion: Fields) -> Expectation:
    del assertion
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    least, most = (value.get("min"), value.get("max")) if isinstance(value, Mapping) else (value, value)
    numbers = [each for each in (least, most) if each is not None]
    if (
        not numbers
        or not all(is_integer(each) and each >= 0 for each in numbers)
        or numbers != sorted(numbers)
    ):
        raise _refused("the value must be a whole number, or min and max, of which min is not larger")
    if not least and most is None:
        raise _refused("every output has at least 0 words")
    count = f"{{{least or 0},{'' if most is None else most}}}"
    return {
        "type": "regex",
        "value": rf"^\s*(?:\S+(?:\s+|$)){count}$",
        "dialect": "JavaScript",
        "trim": False,
    }


_CONVERTERS: Mapping[str, Callable[[Any, Fields], Expectation]] = {
    "contains": lambda value, _: _contains(value, ignore_case=False),
    "icontains": lambda value, _: _contains(value, ignore_case=True),
    "contains-any": lambda value, _: _contains_several(value, "any", ignore_case=False),
    "icontains-any": lambda value, _: _contains_several(value, "any", ignore_case=True),
    "contains-all": lambda value, _: _contains_several(value, "all", ignore_case=False),
    "icontains-all": lambda value, _: _contains_several(value, "all", ignore_case=True),
    "equals": _equals,
    "is-json": _is_json,
    "regex": _regex,
    "starts-with": _starts_with,
    "word-count": _word_count,
}
