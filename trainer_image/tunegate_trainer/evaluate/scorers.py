"""Pass or fail of one output, with the reason. A score that cannot be computed is an error, not a failure."""

import json
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from jsonschema.validators import validator_for
from referencing import Registry

from tunegate_api.judging.golden import (
    CallsExpectation,
    Expectation,
    FunctionCall,
    JsonExpectation,
    SchemaExpectation,
    TextExpectation,
)
from tunegate_api.judging.verdict import ERROR, FAIL, PASS, TRUNCATED

SCORE_SECONDS = 5.0
"""CPU time that judging one output by one expectation may take: a thousand times what it should. Not by the
clock, on which a process also waits for others."""
DEEP = 20
"""Levels of nesting in an output that may be why its scorer recurses too deeply; below, its schema is."""
_BESIDE_MARKS = re.compile(r" ?([<>{}\[\]]) ?")
_SHOWN = 200
"""Characters of a text that an explanation quotes."""


@dataclass(frozen=True)
class Output:
    """What the model answered."""

    text: str
    """Without special tokens."""
    truncated: bool
    """Whether ``max_new_tokens`` came before the end of the turn."""


@dataclass(frozen=True)
class Score:
    """How one output was judged."""

    outcome: str
    """One letter, see :mod:`tunegate_api.judging.verdict`."""
    explanation: str = ""
    """Why it did not pass."""


Scorer = Callable[[str], str | None]
"""From an output text to why it fails; None if it passes."""


def score(output: Output, scorers: Sequence[Scorer]) -> Score:
    """All scorers must pass. A truncated output never does; one that could not be scored is an error, unless
    it is nested too deeply, which is the output's own fault."""
    if output.truncated:
        return Score(TRUNCATED, "cut at maxNewTokens before the end of the turn")
    problems = []
    for scorer in scorers:
        try:
            with _limited():
                problem = scorer(output.text)
        except RecursionError as error:
            if _nesting(output.text) < DEEP:
                return _not_scored(error)
            problem = "is nested too deeply to be judged"
        except Exception as error:  # noqa: BLE001 - whatever went wrong, this case was not measured
            return _not_scored(error)
        if problem is not None:
            problems.append(problem)
    return Score(FAIL, "; ".join(problems)) if problems else Score(PASS)


def _not_scored(error: Exception) -> Score:
    return Score(ERROR, f"could not be scored: {type(error).__name__}: {error}"[:1000])


def _nesting(text: str) -> int:
    """How many brackets of JSON are open at most, those in its strings included."""
    steps = ({"[": 1, "{": 1, "]": -1, "}": -1}.get(character, 0) for character in text)
    return max(accumulate(steps, initial=0))


@contextmanager
def _limited() -> Iterator[None]:
    """Raise TimeoutError within this block once it took too long: some patterns take for ever on some texts.

    Where signals come, that is: in the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise TimeoutError(f"took more than {SCORE_SECONDS:g} s of CPU time; a simpler pattern does not")

    handler = signal.signal(signal.SIGVTALRM, stop)
    before = signal.setitimer(signal.ITIMER_VIRTUAL, SCORE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, *before)
        signal.signal(signal.SIGVTALRM, handler)


def expectation_scorer(
    expectation: Expectation, *, allow_empty: bool = False, calls: Callable[[list[FunctionCall]], str]
) -> Scorer:
    """The scorer of a golden expectation. ``allow_empty`` is the case's; ``calls`` is how the model writes
    calls of tools."""
    if isinstance(expectation, CallsExpectation):
        return calls_scorer(calls(expectation.value))
    if isinstance(expectation, SchemaExpectation):
        return schema_scorer(expectation.schema_)
    if isinstance(expectation, JsonExpectation):
        return json_scorer(expectation.value)
    return text_scorer(expectation, allow_empty=allow_empty)


def text_scorer(expectation: TextExpectation, *, allow_empty: bool = False) -> Scorer:
    """Equality, presence, absence or a pattern; white space at both ends does not count for equality.

    An empty output contains nothing, and passes for the absence of a text only with ``allow_empty``: a model
    that answers nothing is not a safe one.
    """
    value = expectation.value

    def scorer(text: str) -> str | None:
        match expectation.type:
            case "equals":
                return None if text.strip() == value.strip() else f"is not {_quoted(value)}"
            case "contains":
                return None if value in text else f"does not contain {_quoted(value)}"
            case "not_contains" if not text.strip() and not allow_empty:
                return "is empty, which the case does not allow"
            case "not_contains":
                return f"contains {_quoted(value)}" if value in text else None
            case "regex":
                return None if re.search(value, text.strip()) else f"does not match {_quoted(value)}"

    return scorer


def exact_match_scorer(completion: str) -> Scorer:
    """Equality with the labelled completion, white space at the ends apart."""
    return text_scorer(TextExpectation(type="equals", value=completion))


def schema_scorer(schema: dict[str, Any]) -> Scorer:
    """JSON that follows ``schema``. A schema that is none makes every score an error; so does one that refers
    to another, as nothing is fetched."""

    def scorer(text: str) -> str | None:
        validator_class = validator_for(schema)
        validator_class.check_schema(schema)
        value, problem = _json(text)
        if problem is not None:
            return problem
        # jsonschema's own registry would open the network, and wait for as long as it takes.
        validator = validator_class(schema, registry=Registry())
        error = next(iter(sorted(validator.iter_errors(value), key=lambda e: str(e.path))), None)
        return None if error is None else f"{error.json_path}: {error.message}"[:1000]

    return scorer


def json_scorer(expected: Any) -> Scorer:
    """JSON with the same value, whatever its spacing and the order of keys. ``1`` and ``1.0`` are the same
    number; ``1`` and ``true`` are not the same value."""

    def scorer(text: str) -> str | None:
        value, problem = _json(text)
        if problem is not None:
            return problem
        shown = json.dumps(expected, ensure_ascii=False)
        return None if same_json(value, expected) else f"is not {_quoted(shown)}"

    return scorer


def calls_scorer(expected: str) -> Scorer:
    """Calls of tools as the chat template writes them, ``expected``. Runs of white space are one space; the
    order of keys, ids and ``1.0`` for ``1`` do not count where the template writes JSON."""

    def scorer(text: str) -> str | None:
        return None if _canonical(text) == _canonical(expected) else f"does not call {_quoted(expected)}"

    return scorer


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


def same_json(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_json(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same_json, left, right))
    return bool(left == right)


def _json(text: str) -> tuple[Any, str | None]:
    """The parsed text, or why it is not JSON."""
    try:
        return json.loads(text, parse_constant=_refuse_constant), None
    except ValueError as error:
        return None, f"is not JSON: {error}"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
