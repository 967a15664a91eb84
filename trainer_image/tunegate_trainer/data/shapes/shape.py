"""The interface of row shapes: which fields the rows of a data set have."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic

from tunegate_api.v1alpha1.data import Columns, InputColumns
from tunegate_trainer.tokens.rows import RowT

Fields = dict[str, Any]


@dataclass(frozen=True)
class Shape(Generic[RowT]):
    """A public format of rows or pairs."""

    name: str
    """The name in messages and in data/report.json."""
    matches: Callable[[Fields, Columns], bool]
    """Returns whether the fields of a row have this shape. The row may still have other faults."""
    read: Callable[[Fields, Columns], RowT]
    """Returns the row, with an empty id. Raises :class:`BadRowError`."""


def first_turn(fields: Fields, name: str) -> Fields:
    """Return the fields of the first turn in a list of turns. Returns no fields if there is no such turn."""
    turns = fields.get(name)
    return turns[0] if isinstance(turns, list) and turns and isinstance(turns[0], dict) else {}


def chat_field(fields: Fields, columns: InputColumns) -> str | None:
    """Return the name of the field with the turns of a chat. Returns None if the row has no such field."""
    if columns.messages or "messages" in fields:
        return columns.messages or "messages"
    if "conversations" in fields and not has_prompt(fields, columns):
        return "conversations"
    return None


def has_prompt(fields: Fields, columns: InputColumns) -> bool:
    """Return whether a row has the field ``prompt``, or the one that the spec names instead."""
    return (columns.prompt or "prompt") in fields


def is_kto(fields: Fields, columns: Columns) -> bool:
    """Return whether a row has the format of KTO (https://huggingface.co/docs/trl/kto_trainer): a prompt, a
    completion, and whether the completion is a good one."""
    completion = columns.completion or "completion"
    has_label = isinstance(fields.get("label"), bool) and completion != "label"
    return has_label and has_prompt(fields, columns) and completion in fields
