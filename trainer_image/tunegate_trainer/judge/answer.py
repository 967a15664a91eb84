"""Parse the answer of a judge: a JSON object with ``good`` and ``reason``.

Thinking, a code fence and text before the object are ignored. The object must end the answer, because text
after it could say that it is a quotation of the row. Everything else that is not exactly one score is
malformed: no object, a value of ``good`` that is not true or false, or two objects that contradict each
other.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tunegate_trainer.data.excerpts import masked_text, one_line
from tunegate_trainer.inference.faults import Fault, FaultError

MAX_REASON = 100
"""Maximum length of a reason that is kept, in characters."""
_END_OF_THINKING = "</think>"
_ENDS = ("", ".", "```", ".```", "```.")
"""What may follow the object apart from white space."""


@dataclass(frozen=True)
class Answer:
    """The score of a row by the judge."""

    good: bool
    reason: str
    """Why, on one line, masked and truncated. The judge may quote the row."""


def parse_answer(text: str) -> Answer:
    """Return the score in an answer. Raises :class:`FaultError` if it has none, or several."""
    found = list(_objects(text.rpartition(_END_OF_THINKING)[2]))
    if not found or "good" not in found[-1]:
        raise _malformed("it does not end with a JSON object with the field good")
    scores = [one["good"] for one in found if "good" in one]
    if not all(isinstance(score, bool) for score in scores):
        raise _malformed("good is neither true nor false")
    if len(set(scores)) > 1:
        raise _malformed("two contradicting values of good")
    reason = found[-1].get("reason", "")
    if not isinstance(reason, str):
        raise _malformed("reason is not a string")
    return Answer(scores[0], one_line(masked_text(reason))[:MAX_REASON])


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the outermost JSON objects in a text. Raises :class:`FaultError` for a brace that begins no JSON
    object, because what follows could be a part of a quoted row, and for text after the last object."""
    decoder = json.JSONDecoder(object_pairs_hook=_without_duplicates)
    start, end = text.find("{"), len(text)
    while start >= 0:
        try:
            found, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):  # also for an integer of thousands of digits
            raise _malformed("a brace begins no JSON object") from None
        yield found
        start = text.find("{", end)
    if "".join(text[end:].split()) not in _ENDS:
        raise _malformed("text follows the JSON object")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if sum(key == "good" for key, _ in pairs) > 1:
        raise _malformed("two values of good in one object")
    return dict(pairs)


def _malformed(why: str) -> FaultError:
    return FaultError(Fault.MALFORMED, f"malformed answer: {why}")
