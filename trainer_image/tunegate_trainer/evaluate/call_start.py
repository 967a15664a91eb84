"""Find where tool calls start in an answer, in the form that the model's chat template renders."""

import json
import re
from collections.abc import Collection, Sequence

from transformers import PreTrainedTokenizerBase

from tunegate_api.messages import FunctionCall, ToolCall
from tunegate_trainer.tokens.answers import calls_text
from tunegate_trainer.tokens.rows import Row

_NAME, _ARGUMENT = "tunegate_function", "tunegate_argument"
_TAG = re.compile(r"[<\[][^\s<>\[\]]*\w[^\s<>\[\]]*[>\]]?")
"""Matches a tag, such as ``<tool_call>``, ``<function=`` or ``[TOOL_CALLS]``."""
_PIECE = re.compile(r"[()<>{}\[\]]|[^\s()<>{}\[\]]+")
"""Matches a bracket, or text without brackets and white space."""
_ANY_NAME = r"[^\s()<>{}\[\]\"'`]{0,63}\w"
"""Matches any name of a function or argument. The limit keeps a search linear in the length of the text."""
_ANY_BARE_NAME = r"[\w-]{1,64}"
"""Matches any name without a text before it. A dot before such a name is more likely the end of the sentence
before the call than a part of the name."""


def call_start(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row]) -> re.Pattern[str]:
    """Return a pattern for the start of a tool call, in answers to ``rows`` without special tokens.

    What the pattern matches depends on the text that the chat template renders for a call:

    - If a tag such as ``<tool_call>`` is before the call, and is not a special token: this tag.
    - If the call is a JSON object, such as ``[{"name": "weather", "arguments": {}}]``: an object with the key
      of the name or of the arguments, in any order, and with or without the list.
    - Otherwise, as for ``[weather(city="Oslo")]``: a name with the text around it, see :func:`_around_name`.

    If no row has tool calls, the pattern matches ``{``. Raises :class:`UserError` if the template refuses a
    chat.
    """
    calling = next((row for row in rows if row.tool_calls), None)
    if calling is None:
        return re.compile(r"\{")
    call = ToolCall(function=FunctionCall(name=_NAME, arguments={_ARGUMENT: "x"}))
    rendered = calls_text(tokenizer, calling.prompt, [call], calling.tools)
    before = rendered.partition(_NAME)[0]
    if tag := _TAG.search(before.partition("{")[0]):
        return re.compile(re.escape(tag[0]))
    if keys := _keys(rendered):
        key = "|".join(map(re.escape, keys))
        return re.compile(rf"(?:\[\s*)?\{{[^{{}}\[\]]*[\"'](?:{key})[\"']\s*:")
    return re.compile(_around_name(rendered, _functions(rows)))


def _keys(rendered: str) -> list[str]:
    """Return the keys with the name and the arguments of a call that is a JSON object. Empty for other
    calls."""
    _, brace, rest = rendered.partition("{")
    try:
        call, _ = json.JSONDecoder().raw_decode(brace + rest)
    except ValueError:
        return []
    return [key for key, value in call.items() if _NAME in str(value) or _ARGUMENT in str(value)]


def _functions(rows: Sequence[Row]) -> set[str]:
    """Return the names of the functions that rows define or call."""
    called = {call.function.name for row in rows for call in row.tool_calls or ()}
    return called | {tool["function"]["name"] for row in rows for tool in row.tools or ()}


def _around_name(rendered: str, functions: Collection[str]) -> str:
    """Return the regular expression for a name with the text around it, in a call that a template renders as
    ``rendered``. It matches one of:

    - The name of one of the ``functions``, with the text before it, and the text after it up to the first
      bracket, such as ``[weather(``. After a text such as ``call:``, the name is enough. If there is no text
      before and after it, the name must be a line.
    - Any other name, if a bracket follows. After the bracket must be the key of the first argument, such as
      ``[clock(zone=``, or the end of the answer, such as ``[clock()]``.
    """
    before, _, after = rendered.strip().partition(_NAME)
    opening = re.split(rf"{_NAME}|{_ARGUMENT}|(?<=[({{\[])", after)[0]
    has_bracket = opening.endswith(("(", "{", "["))
    edge = "" if re.match(r"\W", before) else r"(?<![\w-])"
    start = edge + _loose(before) + (r"\s*" if re.search(r"[\s({\[<]$", before) else "")
    known = f"(?:{'|'.join(map(re.escape, sorted(functions, key=len, reverse=True)))})"
    forms = []
    if re.search(r"\w[^\w\s]\s*$", before):
        forms.append(start + known)
    elif before or opening.strip():
        forms.append(rf"{start}{known}\s*{_loose(opening)}")
    if not before and not has_bracket:
        forms.append(rf"(?m:^){known}[^\S\n]*(?m:$)")
    if has_bracket or "<" in opening:
        # Without a text before the name, a space after it is more likely prose: `Send {"city": "Oslo"}`.
        space = r"\s*" if before or opening[0].isspace() else ""
        first = _first_argument(after[len(opening) :]) if has_bracket else ""
        forms.append(f"{start}{_ANY_NAME if before else _ANY_BARE_NAME}{space}{_loose(opening)}{first}")
    return "|".join(forms)


def _first_argument(rest: str) -> str:
    """Return the regular expression for the end of an answer, or for the key of an argument as in ``rest``,
    which is the text of a call after its opening bracket."""
    key = re.match(rf"[^\w]*{_ARGUMENT}\W*?[:=>]", rest)
    return rf"(?:\W*\Z|\s*{_loose(key[0]).replace(_ARGUMENT, _ANY_NAME)})" if key else r"\W*\Z"


def _loose(text: str) -> str:
    """Return the regular expression for a text, with any white space beside brackets and between words."""
    return r"\s*".join(map(re.escape, _PIECE.findall(text)))
