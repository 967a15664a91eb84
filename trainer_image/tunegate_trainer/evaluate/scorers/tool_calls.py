"""Calls of tools, as the chat template of a model writes them."""

import json
import re

from tunegate_trainer.evaluate.scorers.scorer import Sample, quoted

_BESIDE_MARKS = re.compile(r" ?([<>{}\[\]]) ?")


def tool_calls_equal(sample: Sample) -> str | None:
    """The calls of the reference, a text as the chat template writes them. Runs of white space are one space;
    the order of keys, ids and ``1.0`` for ``1`` do not count where the template writes JSON."""
    expected: str = sample.reference
    if _canonical(sample.output) == _canonical(expected):
        return None
    return f"does not call {quoted(expected)}"


def _canonical(text: str) -> str:
    """A text with its JSON objects in one form, and no white space beside marks."""
    parts, at = [], 0
    decoder = json.JSONDecoder(parse_float=_number)
    while (start := text.find("{", at)) >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except ValueError:
            value, end = "{", start + 1
        if isinstance(value, dict) and {"id", "name"} <= value.keys():
            value = {key: one for key, one in value.items() if key != "id"}  # each call has another
        parts += [text[at:start], json.dumps(value, sort_keys=True)]
        at = end
    whole = " ".join("".join([*parts, text[at:]]).split())
    return _BESIDE_MARKS.sub(r"\1", whole).strip()


def _number(text: str) -> float:
    number = float(text)
    return int(number) if number.is_integer() else number
