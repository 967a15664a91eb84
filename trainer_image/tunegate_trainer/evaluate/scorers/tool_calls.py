"""Compare tool calls as text, in the form that the model's chat template renders."""

import json
import re

from tunegate_trainer.evaluate.scorers.scorer import Sample, quoted

_BESIDE_MARKS = re.compile(r" ?([<>{}\[\]]) ?")


def tool_calls_equal(sample: Sample) -> str | None:
    """Pass if the output equals the reference, which is the tool calls as the chat template renders them.

    The comparison ignores repeated white space and white space next to brackets. In JSON objects, it also
    ignores the order of keys, the ids of calls, and the difference between ``1.0`` and ``1``.
    """
    expected: str = sample.reference
    if _canonical(sample.output) == _canonical(expected):
        return None
    return f"does not call {quoted(expected)}"


def _canonical(text: str) -> str:
    """Return a text with normalized JSON objects, and without white space next to brackets."""
    parts, at = [], 0
    decoder = json.JSONDecoder(parse_float=_number)
    while (start := text.find("{", at)) >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except ValueError:
            value, end = "{", start + 1
        if isinstance(value, dict) and {"id", "name"} <= value.keys():
            value = {key: one for key, one in value.items() if key != "id"}  # random for each call
        parts += [text[at:start], json.dumps(value, sort_keys=True)]
        at = end
    whole = " ".join("".join([*parts, text[at:]]).split())
    return _BESIDE_MARKS.sub(r"\1", whole).strip()


def _number(text: str) -> float:
    number = float(text)
    return int(number) if number.is_integer() else number
