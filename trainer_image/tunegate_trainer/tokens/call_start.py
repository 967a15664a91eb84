"""Find where tool calls start in an answer, in the form that the model's chat template renders."""

import json
import re
from collections.abc import Sequence

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
      of the arguments, or with the name of a known function, in any order, and with or without the list.
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
    known = f"(?:{'|'.join(map(re.escape, sorted(_functions(rows), key=len, reverse=True)))})"
    return re.compile(_json_object(rendered, known) or _around_name(rendered, known))


def _json_object(rendered: str, known: str) -> str | None:
    """Return the regular expression for a call that is a JSON object with the keys of ``rendered``; None if
    it is no such object, or has the name as a key. ``known`` matches the name of a known function."""
    _, brace, rest = rendered.partition("{")
    try:
        call, _ = json.JSONDecoder().raw_decode(brace + rest)
    except ValueError:
        return None
    if any(_NAME in key for key in call):
        return None
    names = [re.escape(key) for key, value in call.items() if value == _NAME]
    others = [re.escape(key) for key, value in call.items() if value != _NAME and _is_of_call(value)]
    keys = [rf"(?:{'|'.join(others)})[\"']\s*:"] if others else []
    keys += [rf"(?:{'|'.join(names)})[\"']\s*:\s*[\"']{known}[\"']"] if names else []
    return rf"(?:\[\s*)?\{{[^{{}}\[\]]*[\"'](?:{'|'.join(keys)})" if keys else None


def _is_of_call(value: object) -> bool:
    """Whether a value in a rendered call has the name or the arguments of the call."""
    return _NAME in str(value) or _ARGUMENT in str(value)


def _functions(rows: Sequence[Row]) -> set[str]:
    called = {call.function.name for row in rows for call in row.tool_calls or ()}
    return called | {tool["function"]["name"] for row in rows for tool in row.tools or ()}


def _around_name(rendered: str, known: str) -> str:
    """Return the regular expression for a name with the text around it, in a call that a template renders as
    ``rendered``. It matches one of:

    - The name of a function that ``known`` matches, with the text before it, and the text after it up to the
      first bracket, such as ``[weather(``. After a text such as ``call:``, the name is enough. If there is no
      text before and after it, the name must be a line. If there is only a bracket after it, and a space
      before this bracket, the first argument must follow, as for other names.
    - Any other name, if a bracket follows. After the bracket must be the key of the first argument, such as
      ``[clock(zone=``, or the end of the answer, such as ``[clock()]``.
    """
    before, _, after = rendered.strip().partition(_NAME)
    opening = re.split(rf"{_NAME}|{_ARGUMENT}|(?<=[({{\[])", after)[0]
    has_bracket = opening.endswith(("(", "{", "["))
    edge = "" if re.match(r"\W", before) else r"(?<![\w-])"
    start = edge + _loose(before) + (r"\s*" if re.search(r"[\s({\[<]$", before) else "")
    first = _first_argument(after[len(opening) :]) if has_bracket else ""
    forms = []
    if re.search(r"\w[^\w\s]\s*$", before):
        forms.append(rf"{start}{known}(?![\w-])")
    elif before or opening.strip().strip("({["):
        forms.append(rf"{start}{known}\s*{_loose(opening)}")
    elif opening.strip():
        forms.append(rf"{start}{known}(?:{_loose(opening)}|\s+{_loose(opening)}{first})")
    if not before and not has_bracket:
        forms.append(rf"(?m:^){known}[^\S\n]*(?m:$)")
    if has_bracket or "<" in opening:
        # Without a text before the name, a space after it is more likely prose: `Send {"city": "Oslo"}`.
        space = r"\s*" if before or opening[0].isspace() else ""
        forms.append(f"{start}{_ANY_NAME if before else _ANY_BARE_NAME}{space}{_loose(opening)}{first}")
    return "|".join(forms)


def _first_argument(rest: str) -> str:
    """Return the regular expression for the end of an answer, or for the key of an argument as in ``rest``,
    which is the text of a call after its opening bracket."""
    key = re.match(rf"([^\w]*{_ARGUMENT}\W*?)([:=>])", rest)
    if not key:
        return r"\W*\Z"
    return rf"(?:\W*\Z|\s*{_loose(key[1]).replace(_ARGUMENT, _ANY_NAME)}\s*{re.escape(key[2])})"


def _loose(text: str) -> str:
    """Return the regular expression for a text, with any white space beside brackets and between words."""
    return r"\s*".join(map(re.escape, _PIECE.findall(text)))
