"""Rows as people write them, as the one form that is trained on. Every bad row is named."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tunegate_api.golden import Message
from tunegate_api.v1alpha1.finetunejob import Columns
from tunegate_trainer.data.split import normalize
from tunegate_trainer.rows import Row

MAX_ID_LENGTH = 128
"""Characters of a row's id: ids of held-out rows are reported, and what is reported is bounded."""


class _BadRowError(ValueError):
    """Why a row can't be used."""


@dataclass(frozen=True)
class RowProblem:
    """A line that is not trained on, and why. Lines count from 1."""

    line: int
    reason: str


@dataclass(frozen=True)
class LabelledRow:
    """A usable row, and the group that must stay on one side of the split."""

    line: int
    row: Row
    group: str


@dataclass(frozen=True)
class Parsed:
    rows: list[LabelledRow]
    bad: list[RowProblem]
    """Rows that nobody should train on until they are mended."""
    duplicates: list[RowProblem]
    """Exact repetitions, left out."""


def parse_rows(text: str, columns: Columns, group_by: str | None) -> Parsed:
    """Parse JSON Lines of {prompt, completion} or {messages}; blank lines are skipped.

    The first row decides which of the two forms the file has.
    """
    rows: list[LabelledRow] = []
    bad: list[RowProblem] = []
    duplicates: list[RowProblem] = []
    seen: dict[str, int] = {}
    ids: dict[str, int] = {}
    read: Callable[[dict[str, Any], Columns], tuple[list[Message], str]] | None = None
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: U+2028 may stand in a text
        if not line.strip():
            continue
        try:
            fields = _fields(line)
            read = read or _reader(fields, columns)
            prompt, completion = read(fields, columns)
            row = Row(id=_id(fields, columns, number), prompt=prompt, completion=completion)
            group = _group(fields, group_by, prompt)
            content = json.dumps([[m.role, m.content] for m in prompt] + [completion])
            repeated = seen.get(content)
            if row.id in ids and ids[row.id] != repeated:
                raise _BadRowError(f"id {row.id} is already used in line {ids[row.id]}")
        except _BadRowError as error:
            bad.append(RowProblem(number, str(error)))
            continue
        ids.setdefault(row.id, number)
        if repeated is not None:
            duplicates.append(RowProblem(number, f"repeats line {repeated}"))
            continue
        seen[content] = number
        rows.append(LabelledRow(number, row, group))
    return Parsed(rows, bad, duplicates)


def prompt_text(prompt: list[Message]) -> str:
    """A prompt as one text, for comparisons."""
    return "\n".join(message.content for message in prompt)


def _fields(line: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except json.JSONDecodeError as error:
        raise _BadRowError(f"not JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:  # JSON, but beyond what can be read
        raise _BadRowError(f"cannot be read: {error}") from None
    if not isinstance(fields, dict):
        raise _BadRowError(f"a row is a JSON object, this is {_kind(fields)}")
    return fields


def _reader(
    fields: dict[str, Any], columns: Columns
) -> Callable[[dict[str, Any], Columns], tuple[list[Message], str]]:
    """Which of the two forms the file has, by its first row."""
    if columns.messages or (columns.messages or "messages") in fields:
        return _read_chat
    if (columns.prompt or "prompt") in fields or (columns.completion or "completion") in fields:
        return _read_pair
    raise _BadRowError(
        f"neither prompt and completion nor messages; the fields are: {', '.join(sorted(fields)) or 'none'} "
        "(data.train.columns maps other names)"
    )


def _read_pair(fields: dict[str, Any], columns: Columns) -> tuple[list[Message], str]:
    prompt = _text(fields, columns.prompt or "prompt")
    completion = _text(fields, columns.completion or "completion")
    return [Message(role="user", content=prompt)], completion


def _read_chat(fields: dict[str, Any], columns: Columns) -> tuple[list[Message], str]:
    name = columns.messages or "messages"
    turns = fields.get(name)
    if not isinstance(turns, list) or not turns:
        raise _BadRowError(f"{name} must be a list of {{role, content}}, it is {_kind(turns)}")
    messages = [_message(turn, name, i) for i, turn in enumerate(turns)]
    talk = [m for i, m in enumerate(messages) if not (i == 0 and m.role == "system")]
    for i, message in enumerate(talk):
        expected = "user" if i % 2 == 0 else "assistant"
        if message.role != expected:
            raise _BadRowError(f"{name}: turn {i + 1} is {message.role}, {expected} must follow")
    if not talk or talk[-1].role != "assistant":
        raise _BadRowError(f"{name} must end with the assistant's turn, which is what is learned")
    return messages[:-1], messages[-1].content


def _message(turn: Any, name: str, i: int) -> Message:
    where = f"{name}[{i}]"
    if not isinstance(turn, dict):
        raise _BadRowError(f"{where} must be {{role, content}}, it is {_kind(turn)}")
    role = turn.get("role")
    if role not in ("system", "user", "assistant"):
        raise _BadRowError(f"{where}.role must be system, user or assistant, it is {role!r}")
    return Message(role=role, content=_text(turn, "content", f"{where}.content"))


def _text(fields: dict[str, Any], field: str, name: str | None = None) -> str:
    name = name or field
    if field not in fields:
        raise _BadRowError(f"{name} is missing; the fields are: {', '.join(sorted(fields)) or 'none'}")
    value = fields[field]
    if not isinstance(value, str):
        raise _BadRowError(f"{name} must be a text, it is {_kind(value)}")
    if not value.strip():
        raise _BadRowError(f"{name} is empty")
    return _encodable(value, name)


def _encodable(text: str, name: str) -> str:
    """JSON can hold half of a surrogate pair, which no file and no tokenizer can."""
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise _BadRowError(f"{name} has half of a surrogate pair, which is no character")
    return text


def _id(fields: dict[str, Any], columns: Columns, line: int) -> str:
    name = columns.id or "id"
    if name not in fields and columns.id is None:
        return f"line-{line}"
    value = fields.get(name)
    if not isinstance(value, (str, int)) or isinstance(value, bool) or not str(value).strip():
        raise _BadRowError(f"{name} must be a text or a number, it is {_kind(value)}")
    if len(str(value)) > MAX_ID_LENGTH:
        raise _BadRowError(f"{name} has {len(str(value))} characters, at most {MAX_ID_LENGTH}")
    return _encodable(str(value), name)


def _group(fields: dict[str, Any], group_by: str | None, prompt: list[Message]) -> str:
    if group_by is None:
        return normalize(prompt_text(prompt))
    if fields.get(group_by) in (None, ""):
        raise _BadRowError(f"{group_by}, by which heldOut.groupBy groups, is missing")
    return json.dumps(fields[group_by], sort_keys=True)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "missing"}
    return names.get(type(value), "a number")
