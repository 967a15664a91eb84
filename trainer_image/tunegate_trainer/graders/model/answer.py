"""Parse the answer of a judge: a JSON object with a score, which is true or false, and ``reason``.

Thinking, a code fence and text before the object are ignored. The object must end the answer, because text
after it could say that it is a quotation of the row. Everything else that is not exactly one score is
malformed: no object, a score that is not true or false, or two objects that contradict each other.
"""

import json
from collections.abc import Iterator
from typing import Any

from tunegate_trainer.graders.journal import ServerAnswer, shown_reason
from tunegate_trainer.graders.server.faults import Fault, FaultError

GOOD = "good"
"""The field of the score: whether a row or an output is good."""
COMPLIES = "complies"
"""The field of the score about a safety case: whether the answer complies with the request."""
_END_OF_THINKING = "</think>"
_ENDS = ("", ".", "```", ".```", "```.")
"""What may follow the object apart from white space."""


def parse_answer(text: str, verdict: str = GOOD) -> ServerAnswer:
    """Return the score in an answer, which is the field ``verdict``. Raises :class:`FaultError` if it has
    none, or several."""
    found = list(_objects(text.rpartition(_END_OF_THINKING)[2], verdict))
    if not found or verdict not in found[-1]:
        raise _malformed(f"it does not end with a JSON object with the field {verdict}")
    scores = [one[verdict] for one in found if verdict in one]
    if not all(isinstance(score, bool) for score in scores):
        raise _malformed(f"{verdict} is neither true nor false")
    if len(set(scores)) > 1:
        raise _malformed(f"two contradicting values of {verdict}")
    reason = found[-1].get("reason", "")
    if not isinstance(reason, str):
        raise _malformed("reason is not a string")
    return ServerAnswer(scores[0], shown_reason(reason))


def _objects(text: str, verdict: str) -> Iterator[dict[str, Any]]:
    """Yield the outermost JSON objects in a text. Raises :class:`FaultError` for a brace that begins no JSON
    object, because what follows could be a part of a quoted row, and for text after the last object."""

    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if sum(key == verdict for key, _ in pairs) > 1:
            raise _malformed(f"two values of {verdict} in one object")
        return dict(pairs)

    decoder = json.JSONDecoder(object_pairs_hook=without_duplicates)
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


def _malformed(why: str) -> FaultError:
    return FaultError(Fault.MALFORMED, f"malformed answer: {why}")
