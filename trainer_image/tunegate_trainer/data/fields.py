"""Read the text fields of a row. Errors say what is wrong with the row."""

import re
from typing import Any

from tunegate_trainer.data.excerpts import start_of

SHOWN_CHARACTERS = 160
"""Maximum length of a row's content in a message about it, in characters."""
_SURROGATE = re.compile("[\ud800-\udfff]")


class BadRowError(ValueError):
    """The reason why a row cannot be used."""


def text_field(fields: dict[str, Any], field: str, name: str | None = None) -> str:
    """Return a field that must be a string with text. Errors call it ``name``, by default like ``field``."""
    name = name or field
    if field not in fields:
        raise BadRowError(f"{name} is missing; the fields here are: {', '.join(sorted(fields)) or 'none'}")
    value = fields[field]
    if not isinstance(value, str):
        raise BadRowError(f"{name} must be a string, but it is {kind(value)}")
    if not value.strip():
        raise BadRowError(f"{name} is empty")
    return encodable(value, name)


def encodable(text: str, name: str) -> str:
    """Return ``text``. Raise an error for half of a surrogate pair, which JSON allows but UTF-8 does not."""
    if not text.isascii() and _SURROGATE.search(text):
        raise BadRowError(f"{name} has half of a surrogate pair (such as \\ud83d), which is not a character")
    return text


def is_absent(fields: dict[str, Any], name: str) -> bool:
    """Return whether an optional field is missing or has no content. In CSV, missing fields are empty."""
    return fields.get(name) in (None, [], "")


def refuse_fields(fields: dict[str, Any], *names: str) -> None:
    """Raise an error if a row has one of the fields ``names``, which the row's format does not support."""
    unsupported = [name for name in names if not is_absent(fields, name)]
    if unsupported:
        raise BadRowError(f"the row has fields that its format does not support: {', '.join(unsupported)}")


def excerpt(text: str) -> str:
    """Return a text that may quote a row, masked and shortened for a message."""
    return start_of(text, SHOWN_CHARACTERS, keep_lines=True)


def kind_of(fields: dict[str, Any], name: str) -> str:
    """Return the JSON type of a field for an error message, or "missing"."""
    return kind(fields[name]) if name in fields else "missing"


def kind(value: Any) -> str:
    """Return the JSON type of a value for an error message."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    names |= {int: "a number", float: "a number"}
    return names.get(type(value), f"a value of type {type(value).__name__}")
