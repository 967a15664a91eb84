"""Find where tool calls start in an answer, in the form that the model's chat template renders."""

import json
import re

from transformers import PreTrainedTokenizerBase

from tunegate_api.messages import FunctionCall, ToolCall
from tunegate_trainer.tokens.answers import calls_text
from tunegate_trainer.tokens.rows import Row

_NAME, _ARGUMENT = "tunegate_function", "tunegate_argument"
_TAG = re.compile(r"[<\[][^\s<>\[\]]*\w[^\s<>\[\]]*[>\]]?")
"""Matches a tag, such as ``<tool_call>``, ``<function=`` or ``[TOOL_CALLS]``."""
_BESIDE_BRACKETS = re.compile(r"\s+|(?<=[<>{}\[\]])|(?=[<>{}\[\]])")


def call_start(tokenizer: PreTrainedTokenizerBase, row: Row) -> re.Pattern[str]:
    """Return a pattern for the start of a tool call, in answers without special tokens. ``row`` is any row
    with tool calls.

    What the pattern matches depends on the text that the chat template renders for a call:

    - If a tag such as ``<tool_call>`` is before the call, and is not a special token: this tag.
    - If the call is a JSON object, such as ``[{"name": "weather", "arguments": {}}]``: an object with the key
      of the name or of the arguments, in any order, and with or without the list.
    - Otherwise, as for ``[weather(city="Oslo")]``: the text before the name, any name, and the character
      after the name.
    """
    call = ToolCall(function=FunctionCall(name=_NAME, arguments={_ARGUMENT: "x"}))
    return re.compile(_pattern(calls_text(tokenizer, row.prompt, [call], row.tools)))


def _pattern(rendered: str) -> str:
    """Return the regular expression for the start of a call, which a template renders as ``rendered``."""
    before, _, after = rendered.strip().partition(_NAME)
    if tag := _TAG.search(before.partition("{")[0]):
        return re.escape(tag[0])
    if keys := _keys(rendered):
        key = "|".join(map(re.escape, keys))
        return rf"(?:\[\s*)?\{{[^{{}}\[\]]*[\"'](?:{key})[\"']\s*:"
    prefix = r"\s*".join(map(re.escape, _BESIDE_BRACKETS.split(before)))
    # Without a prefix, a dot is more likely the end of the sentence before the call than a part of the name.
    name = r"[\w.-]+" if before else r"[\w-]+"
    following = after.lstrip()[:1]
    return prefix + name + ("" if re.match(r"\w", following) else rf"\s*{re.escape(following)}")


def _keys(rendered: str) -> list[str]:
    """Return the keys with the name and the arguments of a call that is a JSON object. Empty for other
    calls."""
    _, brace, rest = rendered.partition("{")
    try:
        call, _ = json.JSONDecoder().raw_decode(brace + rest)
    except ValueError:
        return []
    return [key for key, value in call.items() if _NAME in str(value) or _ARGUMENT in str(value)]
