"""The interface of row shapes: which fields the rows of a data set have."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic

from tunegate_api.messages import Message
from tunegate_api.v1alpha2.data import Columns
from tunegate_trainer.data.fields import BadRowError, is_absent, text_field
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


def chat_field(fields: Fields, columns: Columns) -> str | None:
    """Return the name of the field with the turns of a chat. Returns None if the row has no such field."""
    if columns.messages or "messages" in fields:
        return columns.messages or "messages"
    if "conversations" in fields and not has_prompt(fields, columns):
        return "conversations"
    return None


def has_prompt(fields: Fields, columns: Columns) -> bool:
    """Return whether a row has the field ``prompt``, or the one that the spec names instead."""
    return (columns.prompt or "prompt") in fields


def system_turn(fields: Fields, columns: Columns, turns: list[Message]) -> list[Message]:
    """Return the system turn in the field ``system``. It goes before ``turns``. Return no turn if the row has
    no such field, if it is a number, or if ``columns`` names it for something else."""
    is_number = isinstance(fields.get("system"), int | float)
    if is_absent(fields, "system") or is_number or "system" in columns.model_dump().values():
        return []
    system = Message(role="system", content=text_field(fields, "system"))
    if not turns or turns[0].role != "system":
        return [system]
    if turns[0].content.split() != system.content.split():
        raise BadRowError("the row has a field system, but its first turn is another system turn")
    return []


def kto_label(fields: Fields, columns: Columns) -> bool | None:
    """Return the label of a row in the format of KTO (https://huggingface.co/docs/trl/kto_trainer): whether
    its completion is a good one. Return None if the row has another format.

    In CSV, the label is text."""
    completion, label = columns.completion or "completion", fields.get("label")
    if isinstance(label, str):
        label = {"true": True, "false": False}.get(label.strip().lower())
    is_kto = isinstance(label, bool) and completion != "label"
    return label if is_kto and has_prompt(fields, columns) and completion in fields else None
