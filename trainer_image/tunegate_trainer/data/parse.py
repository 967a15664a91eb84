"""Parse the rows and pairs of a data source. Every bad row is listed with its line and the reason."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from tunegate_api.judging.golden import Message, ToolCall, Tools
from tunegate_api.v1alpha1.data import Columns
from tunegate_trainer.data.split import normalize
from tunegate_trainer.tokens.rows import Pair, Row

SHOWN_CHARACTERS = 160
"""Maximum length of a row's content in a message about it, in characters."""
MAX_ID_LENGTH = 128
"""Maximum length of a row's id, in characters. Reports contain the ids of held-out rows, and the size of a
report is limited."""


_FIELDS = {
    "system": ("role", "content"),
    "user": ("role", "content"),
    "assistant": ("role", "content", "reasoning_content", "tool_calls", "weight"),
    "tool": ("role", "content", "tool_call_id", "name"),
}
"""Allowed fields of a turn, by its role. As in OpenAI's format, a turn with weight 0 is not trained on."""
_TOOLS: TypeAdapter[list[dict[str, Any]]] = TypeAdapter(Tools)


_CHAT_FIELDS = ("tools", "tool_calls", "functions", "function_call", "weight")
"""Fields of OpenAI's format that only rows with a chat may have."""


class _BadRowError(ValueError):
    """The reason why a row cannot be used."""


@dataclass(frozen=True)
class RowProblem:
    """A line that is not trained on, and the reason. Lines are counted from 1."""

    line: int
    reason: str


RowT = TypeVar("RowT", Row, Pair)


@dataclass(frozen=True)
class Labelled(Generic[RowT]):
    """A usable row, its line, and its group. All rows of a group are in the same split (train, dev or
    test)."""

    line: int
    row: RowT
    group: str


@dataclass(frozen=True)
class Parsed(Generic[RowT]):
    """The parsed rows of a source. Every line that is not blank is in exactly one of the three lists."""

    rows: list[Labelled[RowT]]
    bad: list[RowProblem]
    """Rows that must be corrected before the source can be trained on."""
    duplicates: list[RowProblem]
    """Exact repetitions of earlier rows, which are dropped."""


def parse_rows(text: str, columns: Columns, group_by: str | None) -> Parsed[Row]:
    """Parse JSON Lines of {prompt, completion} or {messages}. Blank lines are skipped.

    The first row decides which of the two formats the file has.
    """
    read: Callable[[dict[str, Any], Columns], Row] | None = None

    def make(fields: dict[str, Any], id: str) -> Labelled[Row]:
        nonlocal read
        read = read or _reader(fields, columns)
        row = read(fields, columns).model_copy(update={"id": id})
        return Labelled(0, row, _group(fields, group_by, row.prompt))

    return _parse(text, columns, make)


def parse_pairs(text: str, columns: Columns, group_by: str | None) -> Parsed[Pair]:
    """Parse JSON Lines of {prompt, chosen, rejected}. Blank lines are skipped.

    The prompt is a string, or a chat that ends with a user turn. Chosen and rejected are strings, or lists of
    one assistant turn.
    """

    def make(fields: dict[str, Any], id: str) -> Labelled[Pair]:
        _refuse_fields(fields, *_CHAT_FIELDS, "reasoning_content")
        prompt = _prompt(fields, columns.prompt or "prompt")
        chosen = _answer(fields, columns.chosen or "chosen")
        rejected = _answer(fields, columns.rejected or "rejected")
        if chosen.split() == rejected.split():
            raise _BadRowError("chosen and rejected are the same text, so the pair expresses no preference")
        pair = Pair(id=id, prompt=prompt, chosen=chosen, rejected=rejected)
        return Labelled(0, pair, _group(fields, group_by, prompt))

    return _parse(text, columns, make)


def _parse(
    text: str, columns: Columns, make: Callable[[dict[str, Any], str], Labelled[RowT]]
) -> Parsed[RowT]:
    """Parse all lines and find duplicates. ``make`` builds a row from its fields and its id."""
    rows: list[Labelled[RowT]] = []
    bad: list[RowProblem] = []
    duplicates: list[RowProblem] = []
    seen: dict[str, int] = {}
    ids: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines would also split at U+2028
        if not line.strip():
            continue
        try:
            fields = _fields(line)
            found = replace(make(fields, _id(fields, columns, number)), line=number)
            content = found.row.model_dump_json(exclude={"id"})
            repeated = seen.get(content)
            if found.row.id in ids and ids[found.row.id] != repeated:
                raise _BadRowError(f"id {found.row.id} is already used in line {ids[found.row.id]}")
        except _BadRowError as error:
            bad.append(RowProblem(number, str(error)))
            continue
        except (RecursionError, TypeError, ValueError) as error:  # raised by libraries for unusual content
            first_line = f"{type(error).__name__}: {error}".splitlines()[0]
            bad.append(RowProblem(number, f"the row cannot be used: {_cut(first_line)}"))
            continue
        ids.setdefault(found.row.id, number)
        if repeated is not None:
            duplicates.append(RowProblem(number, f"repeats line {repeated}"))
            continue
        seen[content] = number
        rows.append(found)
    return Parsed(rows, bad, duplicates)


def prompt_text(prompt: list[Message]) -> str:
    """Return the turns and tool calls of a prompt as one text, for comparisons."""
    return "\n".join(
        part for message in prompt for part in (message.content, *map(_call_text, message.tool_calls or ()))
    )


def _call_text(call: ToolCall) -> str:
    return f"{call.function.name} {json.dumps(call.function.arguments, sort_keys=True)}"


def _cut(text: str) -> str:
    """Return a text, shortened for a message."""
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _fields(line: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except json.JSONDecodeError as error:
        raise _BadRowError(f"the row is not JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:  # valid JSON beyond Python's limits
        raise _BadRowError(f"the row cannot be parsed: {error}") from None
    if not isinstance(fields, dict):
        raise _BadRowError(f"a row must be a JSON object, but it is {_kind(fields)}")
    return fields


def _reader(fields: dict[str, Any], columns: Columns) -> Callable[[dict[str, Any], Columns], Row]:
    """Return the function that reads rows of this format: chats, or prompt and completion."""
    if columns.messages or (columns.messages or "messages") in fields:
        return _read_chat
    if (columns.prompt or "prompt") in fields or (columns.completion or "completion") in fields:
        return _read_completion
    raise _BadRowError(
        "a row needs the fields prompt and completion, or messages; this row has: "
        f"{', '.join(sorted(fields)) or 'no fields'} (map other field names in data.train.columns)"
    )


def _read_completion(fields: dict[str, Any], columns: Columns) -> Row:
    _refuse_fields(fields, *_CHAT_FIELDS)
    prompt = Message(role="user", content=_text(fields, columns.prompt or "prompt"))
    completion = _text(fields, columns.completion or "completion")
    reasoning = fields.get("reasoning_content") and _text(fields, "reasoning_content")
    return Row(id="", prompt=[prompt], completion=completion, reasoning=reasoning or None)


def _read_chat(fields: dict[str, Any], columns: Columns) -> Row:
    name = columns.messages or "messages"
    _refuse_fields(fields, "functions", "function_call", "reasoning_content", "weight")
    messages = _messages(fields, name)
    *prompt, answer = messages
    if answer.role != "assistant":
        raise _BadRowError(f"{name} must end with an assistant turn, which is the answer to train on")
    weightless = [i for i, turn in enumerate(fields[name]) if turn.get("weight") == 0]
    if len(prompt) in weightless:
        raise _BadRowError(
            f"{name}[{len(prompt)}].weight is 0, but the last turn is the answer to train on: remove the "
            "weight or the row"
        )
    return Row(
        id="",
        prompt=prompt,
        completion=answer.content,
        reasoning=answer.reasoning_content,
        tool_calls=answer.tool_calls,
        tools=_tools(fields),
        unlearned=weightless,
    )


def _prompt(fields: dict[str, Any], name: str) -> list[Message]:
    """Read the prompt of a pair: a string or a chat."""
    if not isinstance(fields.get(name), list):
        return [Message(role="user", content=_text(fields, name))]
    messages = _messages(fields, name)
    if messages[-1].role != "user":
        raise _BadRowError(f"{name} must end with a user turn, because chosen and rejected are replies to it")
    return messages


def _answer(fields: dict[str, Any], name: str) -> str:
    """Read an answer of a pair: a string or a list of one assistant turn."""
    turns = fields.get(name)
    if not isinstance(turns, list):
        return _text(fields, name)
    if len(turns) != 1 or (answer := _message(turns[0], name, 0)).role != "assistant":
        raise _BadRowError(f"{name} must be a single assistant turn; put earlier turns into prompt")
    if answer.tool_calls or answer.reasoning_content or turns[0].get("weight", 1) != 1:
        raise _BadRowError(f"{name} must be plain text: pairs support no tool calls, reasoning or weights")
    return answer.content


def _messages(fields: dict[str, Any], name: str) -> list[Message]:
    """Read a chat: user and assistant turns in alternation, after an optional system turn.

    After an assistant turn with tool calls there is one tool turn per call, and then the next assistant turn.
    """
    turns = fields.get(name)
    if not isinstance(turns, list) or not turns:
        raise _BadRowError(f"{name} must be a list of {{role, content}}, but it is {_kind_of(fields, name)}")
    messages = [_message(turn, name, i) for i, turn in enumerate(turns)]
    first = 1 if messages[0].role == "system" else 0
    expected, unanswered = "user", 0
    for i, message in enumerate(messages[first:], first):
        if message.role != expected:
            raise _BadRowError(f"{name}[{i}].role must be {expected} here, but it is {message.role}")
        unanswered += len(message.tool_calls or ()) - (message.role == "tool")
        expected = "tool" if unanswered else "user" if message.role == "assistant" else "assistant"
    return messages


def _message(turn: Any, name: str, i: int) -> Message:
    where = f"{name}[{i}]"
    if not isinstance(turn, dict):
        raise _BadRowError(f"{where} must be {{role, content}}, but it is {_kind(turn)}")
    role = turn.get("role")
    if not isinstance(role, str) or role not in _FIELDS:
        *others, last = _FIELDS
        raise _BadRowError(
            f"{where}.role must be {', '.join(others)} or {last}, but it is {_cut(repr(role))}"
        )
    given = {field: value for field, value in turn.items() if value not in (None, [])}
    unsupported = sorted(given.keys() - _FIELDS[role])
    if unsupported:
        allowed = ", ".join(_FIELDS[role])
        named = _cut(", ".join(unsupported))
        raise _BadRowError(f"{where} has {named}, but a turn with role {role} may only have {allowed}")
    if given.get("weight", 1) not in (0, 1) or isinstance(given.get("weight"), bool):
        raise _BadRowError(f"{where}.weight must be 0 or 1, but it is {turn['weight']!r}")
    if "tool_calls" not in given or given.get("content"):
        _text(given, "content", f"{where}.content")
    for field in ("content", "reasoning_content", "tool_call_id", "name"):
        if given.get(field):
            _text(given, field, f"{where}.{field}")
    given.pop("weight", None)
    try:
        return Message.model_validate(given)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in (where, *problem["loc"]))
        raise _BadRowError(_cut(f"{place}: {problem['msg']}")) from None


def _refuse_fields(fields: dict[str, Any], *names: str) -> None:
    """Raise an error if a row has one of the fields ``names``, which the row's format does not support."""
    unsupported = [name for name in names if fields.get(name) not in (None, [])]
    if unsupported:
        raise _BadRowError(f"the row has fields that its format does not support: {', '.join(unsupported)}")


def _tools(fields: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Read the functions that a row declares in ``tools``."""
    tools = fields.get("tools")
    if tools in (None, []):
        return None
    try:
        return _TOOLS.validate_python(tools)
    except ValidationError as error:
        problem = error.errors()[0]
        raise _BadRowError(".".join(map(str, ("tools", *problem["loc"]))) + f": {problem['msg']}") from None


def _text(fields: dict[str, Any], field: str, name: str | None = None) -> str:
    name = name or field
    if field not in fields:
        raise _BadRowError(f"{name} is missing; the fields here are: {', '.join(sorted(fields)) or 'none'}")
    value = fields[field]
    if not isinstance(value, str):
        raise _BadRowError(f"{name} must be a string, but it is {_kind(value)}")
    if not value.strip():
        raise _BadRowError(f"{name} is empty")
    return _encodable(value, name)


def _encodable(text: str, name: str) -> str:
    """Return ``text``. Raise an error for half of a surrogate pair, which JSON allows but UTF-8 does not."""
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise _BadRowError(f"{name} has half of a surrogate pair (such as \\ud83d), which is not a character")
    return text


def _id(fields: dict[str, Any], columns: Columns, line: int) -> str:
    name = columns.id or "id"
    if name not in fields and columns.id is None:
        return f"line-{line}"
    value = fields.get(name)
    if not isinstance(value, (str, int)) or isinstance(value, bool) or not str(value).strip():
        raise _BadRowError(
            f"{name} must be a non-empty string or an integer, but it is {_kind_of(fields, name)}"
        )
    if len(str(value)) > MAX_ID_LENGTH:
        raise _BadRowError(f"{name} has {len(str(value))} characters, but may have at most {MAX_ID_LENGTH}")
    return _encodable(str(value), name)


def _group(fields: dict[str, Any], group_by: str | None, prompt: list[Message]) -> str:
    if group_by is None:
        return normalize(prompt_text(prompt))
    if fields.get(group_by) in (None, ""):
        raise _BadRowError(f"the field {group_by}, which heldOut.groupBy names, is missing or empty")
    return json.dumps(fields[group_by], sort_keys=True)


def _kind_of(fields: dict[str, Any], name: str) -> str:
    """Return the JSON type of a field for an error message, or "missing"."""
    return _kind(fields[name]) if name in fields else "missing"


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
