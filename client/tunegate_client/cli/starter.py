"""What the manifests of a new project are made from, and helpers to write them as YAML with comments."""

import json
import re
import textwrap
from dataclasses import dataclass

from tunegate_api.contract.forecast import DescribedData
from tunegate_api.v1alpha2.data import Columns, Goal

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./:@+-]*(?<!:)")
_NOT_TEXT = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
"""Words that YAML reads as other values than text if they have no quotes."""
_WIDTH = 110


@dataclass(frozen=True)
class Starter:
    """The answers to what ``tunegate init`` needs to know."""

    name: str
    goal: Goal
    model: str
    """The URI of the model."""
    revision: str | None
    data: str
    """The URI of the data."""
    columns: Columns
    """The columns of the data that have other names than usual."""
    accelerator: str
    described: DescribedData


def scalar(text: str) -> str:
    """Return a text as a YAML scalar on one line, with quotes if it needs them."""
    if _PLAIN.fullmatch(text) and text.casefold() not in _NOT_TEXT:
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else _escaped(char) for char in quoted)


def _escaped(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 1 << 16 else f"\\U{ord(char):08x}"


def comment(text: str, indent: int = 0) -> str:
    """Return a comment of as many lines as it needs."""
    start = " " * indent + "# "
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=start,
        subsequent_indent=start,
        break_long_words=False,
        break_on_hyphens=False,
    )
