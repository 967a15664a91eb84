"""Contradictions between the lengths of outputs."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tunegate_api.cases.expectations import LengthExpectation
from tunegate_api.cases.normalize import ComparedForm
from tunegate_trainer.evaluate.contradictions.claims import Claim
from tunegate_trainer.evaluate.contradictions.conditions import Condition, both

UNITS = ("Characters", "Words", "Lines")
_EXPANSION: dict[ComparedForm, int] = {"Unicode": 18, "Case": 3, "LowerCase": 3}
"""Maximum number of characters that a form makes of one character (Unicode Standard, sections 3.13 and UAX
#15). The other forms make at most one."""


@dataclass(frozen=True)
class _Bound:
    unit: str
    length: int
    condition: Condition | None = None
    """The condition that the bound follows from. None: an output must not be empty."""


def length_contradictions(
    conditions: Sequence[Condition], claims: Sequence[Claim], *, allow_empty: bool
) -> Iterator[str]:
    """Find lengths that no output has, also by the texts that it must have."""
    least = [] if allow_empty else [_Bound(unit, 1) for unit in UNITS]
    most: list[_Bound] = []
    for condition in conditions:
        if isinstance(condition.leaf, LengthExpectation):
            low, high = _range(condition.leaf, negated=condition.negated)
            least.append(_Bound(condition.leaf.unit, low, condition))
            most += [] if high is None else [_Bound(condition.leaf.unit, high, condition)]
    for claim in claims:
        if not claim.condition.negated:
            least += _least(claim)
            most += _most(claim)
    least += [_Bound("Characters", _characters(each), each.condition) for each in least]
    for unit in UNITS:
        longest = max(
            (each for each in least if each.unit == unit), key=lambda each: each.length, default=None
        )
        shortest = min(
            (each for each in most if each.unit == unit), key=lambda each: each.length, default=None
        )
        if longest and shortest and shortest.condition and longest.length > shortest.length:
            if longest.condition:
                yield both(longest.condition, shortest.condition)
            else:
                yield f"{shortest.condition} without allowEmpty"


def _range(leaf: LengthExpectation, *, negated: bool) -> tuple[int, int | None]:
    """Return the smallest and the largest length that a condition allows. A largest length of None is no
    limit."""
    low, high = leaf.min or 0, leaf.max
    if not negated:
        return low, high
    if high is None:
        return 0, low - 1
    return (0, None) if low else (high + 1, None)


def _least(claim: Claim) -> Iterator[_Bound]:
    """Return how long an output is at least that has the text of a claim."""
    text, condition = claim.text.strip(), claim.condition
    expansion = math.prod(_EXPANSION.get(form, 1) for form in claim.view.forms)
    yield _Bound("Characters", math.ceil(len(text) / expansion), condition)
    if "Unicode" not in claim.view.forms:  # NFKC turns some characters into white space and a mark
        yield _Bound("Words", len(text.split()), condition)
        yield _Bound("Lines", len(text.splitlines()), condition)


def _most(claim: Claim) -> Iterator[_Bound]:
    """Return how long an output is at most that is the text of a claim. Only forms of case never shorten an
    output."""
    if claim.part == "Whole" and not claim.view.answer and claim.view.forms <= {"Case", "LowerCase"}:
        yield _Bound("Characters", len(claim.text), claim.condition)
        yield _Bound("Words", len(claim.text.split()), claim.condition)
        yield _Bound("Lines", len(claim.text.splitlines()), claim.condition)


def _characters(bound: _Bound) -> int:
    """Return how many characters the words or lines of a bound have at least, with those between them. Only
    the first and the last line cannot be empty."""
    if bound.unit == "Words":
        return max(0, 2 * bound.length - 1)
    if bound.unit == "Lines" and bound.length > 1:
        return bound.length + 1
    return bound.length
