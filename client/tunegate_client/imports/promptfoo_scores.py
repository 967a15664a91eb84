"""Combine the assertions of a promptfoo test: all must pass, or their weighted score must reach a threshold.

Every assertion that is carried over has the score 1 if it passes, and otherwise 0.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from tunegate_client.imports.imported import NotCarriedError
from tunegate_client.imports.promptfoo_assertions import (
    Expectation,
    Scope,
    expectation_of,
    group,
)

_MAX_ASSERTIONS = 12
"""Maximum number of assertions whose combinations are tried."""
_MAX_OF = 64
"""Maximum number of expectations in a group."""
_CLOSE = 1e-9


@dataclass(frozen=True)
class _Leaf:
    expectation: Expectation
    weight: float


@dataclass(frozen=True)
class _Set:
    of: Sequence["_Leaf | _Set"]
    threshold: float | None
    weight: float = 1

    @property
    def leaves(self) -> list[_Leaf]:
        return [leaf for each in self.of for leaf in (each.leaves if isinstance(each, _Set) else [each])]


def expectations_of(
    assertions: Sequence[Any], threshold: Any, scope: Scope
) -> tuple[list[Expectation], list[NotCarriedError]]:
    """Return the expectations of a test, and its assertions that cannot be carried over.

    If there are such assertions, the expectations are those of the other assertions. They are empty if a
    threshold depends on an assertion that cannot be carried over.
    """
    faults: list[NotCarriedError] = []
    try:
        found = _set(assertions, threshold, 1, scope, faults)
        if faults and _has_threshold(found):
            return [], faults
        expectations = _expectations(found)
        if not expectations and not faults:
            raise NotCarriedError("assert", "no assertion decides, so every output passes")
        return expectations, faults
    except NotCarriedError as error:
        return [], [*faults, error]


def _has_threshold(of: _Set) -> bool:
    return of.threshold is not None or any(_has_threshold(each) for each in of.of if isinstance(each, _Set))


def _set(
    assertions: Sequence[Any], threshold: Any, weight: float, scope: Scope, faults: list[NotCarriedError]
) -> _Set:
    found: list[_Leaf | _Set] = []
    for assertion in assertions:
        if not isinstance(assertion, Mapping) or not isinstance(assertion.get("type"), str):
            raise NotCarriedError("assert", "an assertion must be a mapping with a type")
        own_weight = _number(assertion.get("weight"), "weight", 1)
        if assertion["type"] == "assert-set":
            inner = assertion.get("assert")
            if not isinstance(inner, list) or not inner:
                raise NotCarriedError("assert-set", "assert must be a list of assertions")
            found.append(_set(inner, assertion.get("threshold"), own_weight, scope, faults))
        elif own_weight > 0:  # an assertion with the weight 0 only reports a metric
            try:
                found.append(_Leaf(expectation_of(assertion, scope), own_weight))
            except NotCarriedError as error:
                faults.append(error)
    return _Set(found, None if threshold is None else _number(threshold, "threshold", 0), weight)


def _number(value: Any, kind: str, default: float) -> float:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**31:
        raise NotCarriedError(kind, f"must be a number from 0, not {value}")
    return value


def _expectations(whole: _Set) -> list[Expectation]:
    if whole.threshold is not None:
        return [_by_score(whole)]
    deciding = [each for each in whole.of if isinstance(each, _Leaf) or each.of or each.threshold is not None]
    return [_expectation(each) for each in deciding]


def _expectation(part: _Leaf | _Set) -> Expectation:
    if isinstance(part, _Leaf):
        return part.expectation
    return _by_score(part) if part.threshold is not None else group("all", _expectations(part))


def _by_score(part: _Set) -> Expectation:
    """Return the expectation that the weighted score of a set reaches its threshold."""
    leaves = part.leaves
    are_equal = all(isinstance(each, _Leaf) and each.weight == leaves[0].weight for each in part.of)
    if leaves and are_equal:
        numbers = [n for n in range(len(leaves) + 1) if _passes(part, [i < n for i in range(len(leaves))])]
        _check_decides(numbers[0] if numbers else None, numbers)
        least = numbers[0]
        of = [leaf.expectation for leaf in leaves]
        return group("all" if least == len(of) else "any", of, least)
    if len(leaves) > _MAX_ASSERTIONS:
        raise NotCarriedError(
            "threshold", f"of more than {_MAX_ASSERTIONS} assertions with different weights, or in sets"
        )
    sets = list(_smallest(len(leaves), lambda bits: _passes(part, bits)))
    _check_decides(len(sets[0]) if sets else None, sets)
    if len(sets) > _MAX_OF:
        raise NotCarriedError("threshold", f"is reached by more than {_MAX_OF} combinations of assertions")
    return group("any", [group("all", [leaves[i].expectation for i in one]) for one in sets])


def _check_decides(least: int | None, passing: Sequence[object]) -> None:
    if not passing:
        raise NotCarriedError("threshold", "no output can reach it")
    if least == 0:
        raise NotCarriedError("threshold", "every output reaches it")


def _smallest(count: int, passes: Callable[[Sequence[bool]], bool]) -> Iterator[frozenset[int]]:
    """Yield the sets of passed assertions of which no part passes. A score only grows with each of them."""
    found: list[frozenset[int]] = []
    for size in range(count + 1):
        for chosen in map(frozenset, combinations(range(count), size)):
            if not any(smaller <= chosen for smaller in found) and passes(
                [i in chosen for i in range(count)]
            ):
                found.append(chosen)
                yield chosen


def _passes(part: _Set, bits: Sequence[bool]) -> bool:
    """Whether a set passes if the leaves with true ``bits`` pass."""
    return _scored(part, iter(bits))[0]


def _scored(part: _Leaf | _Set, bits: Iterator[bool]) -> tuple[bool, float]:
    """Return whether an assertion or a set passes, and its score, with the arithmetic of promptfoo."""
    if isinstance(part, _Leaf):
        passed = next(bits)
        return passed, float(passed)
    total = weights = 0.0
    passed = True
    for each in part.of:
        each_passed, each_score = _scored(each, bits)
        total += each_score * each.weight
        weights += each.weight
        passed = passed and each_passed
    score = total / weights if weights > 0 else 0.0
    if part.threshold is None:
        return passed, score
    of_weights = {each.weight for each in part.of}
    is_exact = len(of_weights) == 1 or all(weight == int(weight) for weight in of_weights)
    is_exact = is_exact and all(isinstance(each, _Leaf) for each in part.of)
    if not is_exact and abs(score - part.threshold) < _CLOSE:  # promptfoo adds in the order of completion
        raise NotCarriedError("threshold", "is so close to a possible score that rounding decides")
    return score >= part.threshold, score
