"""The conditions that an output must meet to pass expectations and their groups."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, islice

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
    SchemaExpectation,
    TextExpectation,
)
from tunegate_trainer.evaluate.scorers.scorer import quoted

MAX_WAYS = 256
"""Maximum number of ways to pass a case that are distinguished."""


@dataclass(frozen=True)
class Condition:
    """An expectation without its ``not`` and its groups, and whether its opposite is expected."""

    leaf: Leaf
    negated: bool

    @cached_property
    def fields(self) -> str:
        """The fields of the expectation, except ``not``. As JSON, because 1 and true are equal in Python.
        Infinite numbers have Python's names."""
        return json.dumps(self.leaf.model_dump(by_alias=True, exclude={"not_"}), sort_keys=True, default=str)

    @property
    def is_repeatable(self) -> bool:
        """Whether the same output always has the same score."""
        return not isinstance(self.leaf, CustomExpectation | JudgeExpectation | GuardrailExpectation)

    def __str__(self) -> str:
        return f"{'not ' if self.negated else ''}{_shown(self.leaf)}"


def both(one: Condition, other: Condition) -> str:
    """Return the text for two conditions that contradict each other."""
    return f"both {one} and {other}"


Ways = list[list[Condition]]
"""Ways to pass: an output that passes meets all conditions of at least one way."""


def ways(expectations: Sequence[Expectation]) -> Ways:
    """Return the ways to pass all expectations. The conditions of a group that would lead to more than
    ``MAX_WAYS`` ways are missing."""
    return _all([_ways(each, negated=False) for each in expectations])


def _ways(expectation: Expectation, *, negated: bool) -> Ways:
    negated = negated != expectation.not_
    if isinstance(expectation, GroupExpectation):
        members = [_ways(each, negated=negated) for each in expectation.of]
        # If fewer than `needed` members pass, the others fail.
        needed = len(members) - expectation.needed + 1 if negated else expectation.needed
        found = (way for chosen in combinations(members, needed) for way in _all(chosen))
        some = list(islice(found, MAX_WAYS + 1))
        return some if len(some) <= MAX_WAYS else [[]]
    if expectation.type == "not_contains":
        return [[Condition(expectation.model_copy(update={"type": "contains"}), not negated)]]
    return [[Condition(expectation, negated)]]


def _all(members: Iterable[Ways]) -> Ways:
    """Return the ways to pass all members. Members that would lead to more than ``MAX_WAYS`` are ignored."""
    found: Ways = [[]]
    for each in members:
        if len(found) * len(each) <= MAX_WAYS:
            found = [[*way, *other] for way in found for other in each]
    return found


def _shown(leaf: Leaf) -> str:
    match leaf:
        case TextExpectation() | LabelExpectation() | NumberExpectation() | OverlapExpectation():
            return f"{leaf.type} {quoted(leaf.value)}"
        case JsonExpectation():
            return f"{leaf.type} {quoted(json.dumps(leaf.value, ensure_ascii=False))}"
        case SchemaExpectation() if "type" in leaf.schema_:
            return f"{leaf.type} of the type {leaf.schema_['type']}"
        case LengthExpectation():
            least = [] if leaf.min is None else [f"at least {leaf.min}"]
            most = [] if leaf.max is None else [f"at most {leaf.max}"]
            return f"{leaf.type} of {' and '.join(least + most)} {leaf.unit.lower()}"
        case _:
            return leaf.type
