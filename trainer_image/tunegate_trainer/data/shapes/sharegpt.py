"""ShareGPT's format: {conversations: [{from, value}, ...], system, tools}, with the roles human and gpt.

Tool calls are written as in LLaMA-Factory: a turn from ``function_call``, whose value is the call as JSON, is
followed by a turn from ``observation`` with the result. In preference data, ``conversations`` ends with a
turn from ``human``, and ``chosen`` and ``rejected`` are its answers.
See https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md.
"""

import json
from typing import Any

from tunegate_api.v1alpha2.data import Columns
from tunegate_trainer.data.fields import BadRowError, excerpt, kind, text_field
from tunegate_trainer.data.shapes.openai_chat import read_chat
from tunegate_trainer.data.shapes.preference import make_pair, read_answer, read_prompt, refuse_chat_fields
from tunegate_trainer.data.shapes.shape import Fields, Shape, chat_field, first_turn, has_prompt, system_turn
from tunegate_trainer.tokens.rows import Pair, Row

_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
}
"""The roles in OpenAI's format, by the value of ``from``."""


def _matches(fields: Fields, columns: Columns) -> bool:
    name = chat_field(fields, columns)
    if name is None:
        return False
    turn = first_turn(fields, name)
    return "from" in turn or (name == "conversations" and "role" not in turn)


def _read(fields: Fields, columns: Columns) -> Row:
    return read_chat(as_openai_chat(fields, columns), columns, _chat_field(fields, columns))


def as_openai_chat(fields: Fields, columns: Columns) -> Fields:
    """Return the fields of a row with its turns and tools in OpenAI's format."""
    name = _chat_field(fields, columns)
    return {**fields, name: _turns(fields, name), "tools": _tools(fields)}


def _chat_field(fields: Fields, columns: Columns) -> str:
    return chat_field(fields, columns) or "conversations"


def _matches_pair(fields: Fields, columns: Columns) -> bool:
    return _matches(fields, columns) and not has_prompt(fields, columns)


def _read_pair(fields: Fields, columns: Columns) -> Pair:
    refuse_chat_fields({**fields, "tools": _tools(fields)})
    name = _chat_field(fields, columns)
    prompt = read_prompt({name: _turns(fields, name)}, name)
    answers = [
        read_answer({answer: _answer(fields, answer)} if answer in fields else fields, answer)
        for answer in (columns.chosen or "chosen", columns.rejected or "rejected")
    ]
    return make_pair([*system_turn(fields, columns, prompt), *prompt], *answers)


def _turns(fields: Fields, name: str) -> Any:
    """Return the turns in OpenAI's format. A value that is no list of turns is returned unchanged."""
    turns = fields.get(name)
    if not isinstance(turns, list):
        return turns
    return [_turn(turn, f"{name}[{i}]") for i, turn in enumerate(turns)]


def _answer(fields: Fields, name: str) -> Any:
    """Return an answer of a pair in OpenAI's format: a string is returned unchanged."""
    answer = fields[name]
    return [_turn(answer, name)] if isinstance(answer, dict) else _turns(fields, name)


def _turn(turn: Any, where: str) -> Fields:
    if not isinstance(turn, dict):
        raise BadRowError(f"{where} must be {{from, value}}, but it is {kind(turn)}")
    author = turn.get("from")
    if not isinstance(author, str) or author not in _ROLES:
        *others, last = _ROLES
        raise BadRowError(
            f"{where}.from must be {', '.join(others)} or {last}, but it is {excerpt(repr(author))}"
        )
    value = text_field(turn, "value", f"{where}.value")
    weight = {"weight": turn["weight"]} if turn.get("weight") is not None else {}
    if author == "function_call":
        return {"role": _ROLES[author], "tool_calls": _calls(value, where), **weight}
    return {"role": _ROLES[author], "content": value, **weight}


def _calls(value: str, where: str) -> list[Fields]:
    calls = _json(value, f"{where}.value")
    calls = calls if isinstance(calls, list) else [calls]
    return [{"type": "function", "function": call} for call in calls]


def _tools(fields: Fields) -> Any:
    """Return the tools in OpenAI's format. They may be JSON text, and definitions of functions alone."""
    tools = fields.get("tools")
    if isinstance(tools, str) and tools.strip():
        tools = _json(tools, "tools")
    if not isinstance(tools, list):
        return tools
    return [
        {"type": "function", "function": tool} if isinstance(tool, dict) and "function" not in tool else tool
        for tool in tools
    ]


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRowError(f"{name} must be JSON: {error}") from None


ROWS = Shape("ShareGPT", _matches, _read)
PAIRS = Shape("ShareGPT preference", _matches_pair, _read_pair)
