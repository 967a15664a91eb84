"""Prove that no output can pass a golden case, because two of its expectations contradict each other.

Three mistakes are found: an expectation together with its opposite, an expected answer that fails another
expectation, and lengths that no output has. Each proof is sound: no output passes a reported case. A case
that is not reported may still be impossible to pass.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

from tunegate_api.cases.expectations import (
    CustomExpectation,
    Expectation,
    GroupExpectation,
    GuardrailExpectation,
    JsonExpectation,
    JudgeExpectation,
    LabelExpectation,
    Leaf,
    LengthExpectation,
    NumberExpectation,
    OverlapExpectation,
    RefusalExpectation,
    SchemaExpectation,
    TextExpectation,
)
from tunegate_api.cases.golden import GoldenCase
from tunegate_api.cases.normalize import ComparedForm, without_differences
from tunegate_api.meta import shorten
from tunegate_api.verdict.outcomes import ERROR, PASS
from tunegate_trainer.evaluate.golden_references import plain_reference
from tunegate_trainer.graders import Sample
from tunegate_trainer.graders.exact.labels import LABEL_FORMS
from tunegate_trainer.graders.exact.length import counted_length
from tunegate_trainer.graders.grader import quoted
from tunegate_trainer.graders.table import GRADERS

_MAX_REASON = 400
"""Maximum length of a reason, in characters."""
_BY_CHARACTER: frozenset[ComparedForm] = frozenset({"Case", "Punctuation", "AsciiPunctuation"})
"""The forms that change each character independently of the characters around it."""


@dataclass(frozen=True)
class _Condition:
    """An expectation without its ``not`` and its groups, and whether its opposite is expected."""

    leaf: Leaf
    negated: bool

    def __str__(self) -> str:
        return f"{'not ' if self.negated else ''}{_shown(self.leaf)}"


def contradiction(case: GoldenCase) -> str | None:
    """Return which expectations of a case no output can pass, as in "both equals 'a' and equals 'b'".

    Returns None if no contradiction is proven.
    """
    conditions = [condition for each in case.expect for condition in _required(each)]
    reason = next(_contradictions(conditions, case), None)
    return reason and shorten(reason, _MAX_REASON)


def _contradictions(conditions: Sequence[_Condition], case: GoldenCase) -> Iterator[str]:
    for one, other in combinations(conditions, 2):
        if _are_opposite(one, other):
            yield f"both {one} and {other}"
    for one, other in permutations(conditions, 2):
        if not one.negated and (_excludes(one.leaf, other) or _fails(one.leaf, other, case)):
            yield f"both {one} and {other}"
    yield from _lengths(conditions, allow_empty=case.allow_empty)


def _required(expectation: Expectation, *, outside: bool = False) -> Iterator[_Condition]:
    """Return the conditions that each output that passes meets. Those of a group that can be passed in
    several ways are missing."""
    negated = outside != expectation.not_
    if isinstance(expectation, GroupExpectation):
        members = len(expectation.of)
        # If fewer than `needed` members pass, the others fail.
        needed = members - expectation.needed + 1 if negated else expectation.needed
        if needed == members:
            for each in expectation.of:
                yield from _required(each, outside=negated)
    elif expectation.type == "not_contains":
        yield _Condition(expectation.model_copy(update={"type": "contains"}), not negated)
    else:
        yield _Condition(expectation, negated)


def _are_opposite(one: _Condition, other: _Condition) -> bool:
    """Whether one condition is the opposite of the other, and an output always has the same score."""
    is_repeatable = not isinstance(one.leaf, CustomExpectation | JudgeExpectation | GuardrailExpectation)
    return one.negated != other.negated and is_repeatable and _fields(one.leaf) == _fields(other.leaf)


def _fields(leaf: Leaf) -> str:
    """Return the fields of an expectation without ``not``, as JSON, because in Python 1 equals true."""
    return json.dumps(leaf.model_dump(by_alias=True, exclude={"not_"}), sort_keys=True, default=str)


def _excludes(leaf: Leaf, other: _Condition) -> bool:
    """Whether an output that contains or starts with a text also has a part that it must not contain."""
    excluded = other.leaf
    if not (isinstance(leaf, TextExpectation) and leaf.type in ("contains", "starts_with")):
        return False
    if not (isinstance(excluded, TextExpectation) and excluded.type == "contains" and other.negated):
        return False
    forms = set(excluded.normalize)
    if set(leaf.normalize) != forms and (leaf.normalize or not forms <= _BY_CHARACTER):
        return False
    text = without_differences(leaf.value, excluded.normalize)
    text = text.lstrip() if leaf.type == "starts_with" else text
    return without_differences(excluded.value, excluded.normalize) in text


def _fails(leaf: Leaf, other: _Condition, case: GoldenCase) -> bool:
    """Whether an expectation determines the output, as far as another condition compares it, and this output
    does not meet the other condition."""
    output = _determined(leaf, other)
    if output is None:
        return False
    reference = plain_reference(other.leaf, labels={})
    (score,) = GRADERS[other.leaf.type].score([Sample("", output, reference, case)])
    is_decided = score.outcome != ERROR and not score.undecided
    return is_decided and (score.outcome == PASS) == other.negated


def _determined(leaf: Leaf, other: _Condition) -> str | None:
    """Return an output that passes ``leaf`` if the other condition gives all such outputs the same score."""
    match leaf:
        case LabelExpectation(value=text):
            forms = frozenset(LABEL_FORMS)
        case TextExpectation(type="equals", value=text, until=[], extract=None, ignore=[]):
            forms = frozenset(leaf.normalize)
        case _:
            return None
    return text.strip() if _compares_only(other, forms) else None


def _compares_only(condition: _Condition, forms: frozenset[ComparedForm]) -> bool:
    """Whether a condition gives outputs the same score that differ only in these forms, and in white space at
    their ends."""
    match condition.leaf:
        case TextExpectation(until=[], extract=None, ignore=[]) as leaf:
            part = without_differences(leaf.value, leaf.normalize)
            is_trimmed = leaf.trim if leaf.type != "contains" else part == part.strip()
            return is_trimmed and (not forms or forms == set(leaf.normalize))
        case LabelExpectation():
            return not forms or forms == set(LABEL_FORMS)
        case NumberExpectation() | OverlapExpectation() | LengthExpectation() | RefusalExpectation():
            return not forms
        case JsonExpectation() | SchemaExpectation():  # JSON does not allow all white space
            return not forms and not condition.negated
        case _:
            return False


def _lengths(conditions: Sequence[_Condition], *, allow_empty: bool) -> Iterator[str]:
    """Find a largest length that is below a smallest length, or below the length of a text that the output
    must have."""
    positive = [each for each in conditions if not each.negated]
    for limit in positive:
        if isinstance(limit.leaf, LengthExpectation) and limit.leaf.max is not None:
            for each in positive:
                if _least(each.leaf, limit.leaf.unit) > limit.leaf.max:
                    yield f"both {each} and {limit}"
            if limit.leaf.max == 0 and not allow_empty:
                yield f"{limit} without allowEmpty"


def _least(leaf: Leaf, unit: str) -> int:
    """Return how long an output that passes is at least, as far as it is known."""
    match leaf:
        case LengthExpectation(unit=own, min=int(least)) if own == unit:
            return least
        case TextExpectation(type="contains" | "starts_with", normalize=[]):
            return counted_length(leaf.value, unit)
        case _:
            return 0


def _shown(leaf: Leaf) -> str:
    match leaf:
        case TextExpectation() | LabelExpectation() | NumberExpectation() | OverlapExpectation():
            return f"{leaf.type} {quoted(leaf.value)}"
        case JsonExpectation():
            return f"{leaf.type} {quoted(json.dumps(leaf.value, ensure_ascii=False))}"
        case LengthExpectation():
            least = [] if leaf.min is None else [f"at least {leaf.min}"]
            most = [] if leaf.max is None else [f"at most {leaf.max}"]
            return f"{leaf.type} of {' and '.join(least + most)} {leaf.unit.lower()}"
        case _:
            return leaf.type
