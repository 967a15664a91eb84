"""Read the turns and tools of chats in OpenAI's format. Errors say what is wrong with the row."""

import json
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tunegate_api.messages import Message, Tools
from tunegate_api.meta import first_problem
from tunegate_trainer.data.fields import BadRowError, excerpt, is_absent, kind, kind_of, text_field

_FIELDS = {
    "system": ("role", "content"),
    "user": ("role", "content"),
    "assistant": ("role", "content", "reasoning_content", "tool_calls", "weight"),
    "tool": ("role", "content", "tool_call_id", "name"),
}
"""Allowed fields of a turn, by its role. As in OpenAI's format, a turn with weight 0 is not trained on."""
_TOOLS: TypeAdapter[list[dict[str, Any]]] = TypeAdapter(Tools)


def read_turns(fields: dict[str, Any], field: str, name: str | None = None) -> list[Message]:
    """Read the chat in ``field``: user and assistant turns in alternation, after an optional system turn.
    Errors call the field ``name``, by default like ``field``.

    After an assistant turn with tool calls there is one tool turn per call, and then the next assistant turn.
    """
    name = name or field
    turns = fields.get(field)
    if not isinstance(turns, list) or not turns:
        raise BadRowError(f"{name} must be a list of {{role, content}}, but it is {kind_of(fields, field)}")
    messages = [read_turn(turn, name, i) for i, turn in enumerate(turns)]
    first = 1 if messages[0].role == "system" else 0
    expected, unanswered = "user", 0
    for i, message in enumerate(messages[first:], first):
        if message.role != expected:
            raise BadRowError(f"{name}[{i}].role must be {expected} here, but it is {message.role}")
        unanswered += len(message.tool_calls or ()) - (message.role == "tool")
        expected = "tool" if unanswered else "user" if message.role == "assistant" else "assistant"
    return messages


def read_turn(turn: Any, name: str, i: int) -> Message:
    """Read one turn, the item ``i`` of the list ``name``."""
    where = f"{name}[{i}]"
    if not isinstance(turn, dict):
        raise BadRowError(f"{where} must be {{role, content}}, but it is {kind(turn)}")
    role = turn.get("role")
    if not isinstance(role, str) or role not in _FIELDS:
        *others, last = _FIELDS
        raise BadRowError(
            f"{where}.role must be {', '.join(others)} or {last}, but it is {excerpt(repr(role))}"
        )
    given = {field: value for field, value in turn.items() if value not in (None, [])}
    unsupported = sorted(given.keys() - _FIELDS[role])
    if unsupported:
        allowed = ", ".join(_FIELDS[role])
        named = excerpt(", ".join(unsupported))
        raise BadRowError(f"{where} has {named}, but a turn with role {role} may only have {allowed}")
    if given.get("weight", 1) not in (0, 1) or isinstance(given.get("weight"), bool):
        raise BadRowError(f"{where}.weight must be 0 or 1, but it is {turn['weight']!r}")
    if "tool_calls" not in given or given.get("content"):
        text_field(given, "content", f"{where}.content")
    for field in ("content", "reasoning_content", "tool_call_id", "name"):
        if given.get(field):
            text_field(given, field, f"{where}.{field}")
    given.pop("weight", None)
    try:
        message = Message.model_validate(given)
    except ValidationError as error:
        raise BadRowError(excerpt(first_problem(error, where))) from None
    for number, call in enumerate(message.tool_calls or ()):
        _refuse_not_finite(call.function.arguments, f"{where}.tool_calls.{number}.function.arguments")
    return message


def read_tools(fields: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Read the functions that a row declares in ``tools``."""
    if is_absent(fields, "tools"):
        return None
    try:
        tools = _TOOLS.validate_python(fields["tools"])
    except ValidationError as error:
        raise BadRowError(first_problem(error, "tools")) from None
    _refuse_not_finite(tools, "tools")
    return tools


def _refuse_not_finite(value: Any, name: str) -> None:
    """Raise an error for a number that Python reads, but that would be stored as null."""
    try:
        json.dumps(value, allow_nan=False, default=str)
    except ValueError:
        raise BadRowError(f"{name} has a number that is not finite, such as NaN") from None
