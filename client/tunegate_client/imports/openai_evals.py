"""Convert samples of the repository openai/evals to golden cases, with the semantics of evals 3.0.1."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from tunegate_client.imports.imported import Ids, Imported, NotCarriedError, tags_of
from tunegate_client.imports.javascript import read_text

Fields = Mapping[str, Any]
Expectation = dict[str, Any]

_ROLES = {"system", "user", "assistant"}
_MAX_OF = 64
"""Maximum number of expectations in a group."""
_REFUSED = {
    "FuzzyMatch": "passes outputs that are only a part of the ideal answer, such as one letter of it",
    "JsonValidator": "passes any JSON; write an expectation json_schema",
    "ModelBasedClassify": "asks a model to judge, which is not deterministic",
}


def import_evals(path: Path, eval_: str) -> Imported:
    """Convert the samples at ``path``, JSON Lines. ``eval_`` is the class of their eval, which is used with
    its default arguments. Samples are carried over as a whole or not at all.

    Raises :class:`NotCarriedError`, OSError, and UnicodeDecodeError if the file cannot be read.
    """
    found, ids = Imported(), Ids()
    for number, sample in enumerate(_samples(path), 1):
        case: dict[str, Any] = {"id": ids.new(str(sample.get("id") or ""), f"sample-{number}")}
        faults = []
        try:
            case |= _turns(sample.get("input"))
            case |= {"tags": tags_of(sample.get("metadata")), "expect": [_expectation(sample, eval_)]}
        except NotCarriedError as error:
            faults.append(error)
        found.add(case, faults, incomplete=False)
    return found


def _samples(path: Path) -> list[Fields]:
    try:
        samples = [json.loads(line) for line in read_text(path).split("\n") if line.strip()]
    except (ValueError, RecursionError) as error:
        raise NotCarriedError("file", f"is not JSON Lines: {error}") from error
    if not all(isinstance(sample, Mapping) for sample in samples):
        raise NotCarriedError("file", "must have samples, which are objects with input and ideal")
    return samples


def _turns(given: Any) -> dict[str, Any]:
    if isinstance(given, str) and given:
        return {"prompt": given}
    if not isinstance(given, list) or not given:
        raise NotCarriedError("input", "must be a text or a list of messages")
    for message in given:
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), str):
            raise NotCarriedError("input", "must have messages with a role and a text")
        if message.get("role") not in _ROLES or set(message) != {"role", "content"}:
            raise NotCarriedError("input", "has a message with a name, a tool call or an unknown role")
    return {"messages": [dict(message) for message in given]}


def _expectation(sample: Fields, eval_: str) -> Expectation:
    if eval_ not in _EVALS:
        reason = _REFUSED.get(eval_, f"is not one of {', '.join(EVALS)}")
        raise NotCarriedError(eval_, reason)
    ideal = sample.get("ideal")
    ideals: list[Any] = ideal if isinstance(ideal, list) else [ideal]
    if not ideals or not all(isinstance(each, str) for each in ideals):
        raise NotCarriedError("ideal", "must be a text or a list of texts")
    found = [expectation for each in ideals for expectation in _EVALS[eval_](each)]
    if len(found) > _MAX_OF:
        raise NotCarriedError("ideal", "has too many values that JsonMatch takes for equal")
    return found[0] if len(found) == 1 else {"type": "any", "of": found}


def _match(ideal: str) -> Iterator[Expectation]:
    """The output must start with the ideal answer."""
    if not ideal.strip():
        raise NotCarriedError("ideal", "has no text, so almost every output passes")
    yield {"type": "starts_with", "value": ideal, "trim": False}


def _includes(ideal: str) -> Iterator[Expectation]:
    """The output must contain the ideal answer."""
    if not ideal.strip():
        raise NotCarriedError("ideal", "has no text, so almost every output passes")
    yield {"type": "contains", "value": ideal}


def _json_match(ideal: str) -> Iterator[Expectation]:
    """The output must be JSON with the ideal value. Python compares values, for which True equals 1."""
    try:
        value = json.loads(ideal)
    except (ValueError, RecursionError) as error:
        raise NotCarriedError("ideal", f"is not JSON: {error}") from error
    for leaf in _leaves(value):
        if leaf is None:
            raise NotCarriedError("ideal", "has null, which JsonMatch never passes")
        if isinstance(leaf, float) and not math.isfinite(leaf):
            raise NotCarriedError("ideal", "has a number that is not finite")
    if 2 ** sum(leaf in {0, 1} for leaf in _leaves(value)) > _MAX_OF:
        raise NotCarriedError(
            "ideal", "has too many values that JsonMatch takes for equal, such as 1 and true"
        )
    yield from ({"type": "json_equals", "value": each} for each in _equal_values(value))


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _leaves(each)
    else:
        yield value


def _equal_values(value: Any) -> Iterator[Any]:
    """Return the JSON values that equal a value in Python."""
    if isinstance(value, dict):
        for combination in product(*map(_equal_values, value.values())):
            yield dict(zip(value, combination, strict=True))
    elif isinstance(value, list):
        yield from map(list, product(*map(_equal_values, value)))
    elif isinstance(value, bool | int | float) and value in {0, 1}:
        yield value
        yield int(value) if isinstance(value, bool) else bool(value)
    else:
        yield value


_EVALS: Mapping[str, Callable[[str], Iterator[Expectation]]] = {
    "Includes": _includes,
    "JsonMatch": _json_match,
    "Match": _match,
}
EVALS = tuple(_EVALS)
"""The evals that can be carried over."""
