"""Compare tool calls as text, in the form that the model's chat template renders."""

import json
import re
from dataclasses import dataclass

from tunegate_trainer.graders.grader import Sample, quoted

_KEYS_OF_CALL = ({"id", "name", "arguments"}, {"id", "name", "parameters"})
"""The keys of a call that is a JSON object with an id. An object with other keys has the arguments of a
function, which may be named id and name."""
_BESIDE_MARKS = re.compile(r" ?([<>{}\[\]]) ?")


def tool_calls_equal(sample: Sample) -> str | None:
    """Pass if the output equals the reference, which is the tool calls as the chat template renders them. The
    texts are compared by :func:`same_calls`."""
    expected: str = sample.reference
    return same_calls(sample.output, expected)


@dataclass(frozen=True)
class ExpectedCalls:
    """The tool calls that a row expects."""

    calls: str
    """The tool calls as the chat template renders them. Empty if the row has none."""
    start: re.Pattern[str]
    """Matches the start of a tool call."""


def tool_calls(sample: Sample) -> str | None:
    """Pass if the output has exactly the expected tool calls. If none is expected, pass if the output has
    none. Text before the first tool call is ignored."""
    expected: ExpectedCalls = sample.reference
    calls = _from_start(sample.output, expected.start)
    if not expected.calls:
        return None if calls is None else f"has the tool call {quoted(calls)}, but none is expected"
    if calls is None:
        return f"has no tool call, expected {quoted(expected.calls)}"
    return same_calls(calls, _from_start(expected.calls, expected.start) or expected.calls)


def _from_start(text: str, start: re.Pattern[str]) -> str | None:
    """Return a text without everything before its first tool call. None if it has no tool call."""
    found = start.search(text)
    return text[found.start() :] if found else None


def same_calls(output: str, expected: str) -> str | None:
    """Return None if both texts make the same tool calls, and otherwise an explanation.

    The comparison ignores repeated white space and white space next to brackets. In JSON objects, it also
    ignores the order of keys, the ids of calls, and the difference between ``1.0`` and ``1``.
    """
    if _canonical(output) == _canonical(expected):
        return None
    return f"does not call {quoted(expected)}"


def start_of_calls(text: str, *, whole: bool = False) -> str:
    """Return the canonical form of a text without white space. If the text is not ``whole``, more may follow,
    so only the part before the first JSON object is returned."""
    return "".join((_canonical(text) if whole else text.partition("{")[0]).split())


def _canonical(text: str) -> str:
    """Return a text with normalized JSON objects, and without white space next to brackets."""
    parts, at = [], 0
    decoder = json.JSONDecoder(parse_float=_number)
    while (start := text.find("{", at)) >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except ValueError:
            value, end = "{", start + 1
        if isinstance(value, dict) and value.keys() - {"index", "type"} in _KEYS_OF_CALL:
            value = {key: one for key, one in value.items() if key != "id"}  # random for each call
        parts += [text[at:start], json.dumps(value, sort_keys=True)]
        at = end
    whole = " ".join("".join([*parts, text[at:]]).split())
    return _BESIDE_MARKS.sub(r"\1", whole).strip()


def _number(text: str) -> float:
    number = float(text)
    return int(number) if number.is_integer() else number
