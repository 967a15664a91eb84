"""Contradictions that the scorers find, if one expectation determines what others compare."""

import json
from collections.abc import Iterator, Sequence

from tunegate_api.cases.expectations import (
    JsonExpectation,
    LengthExpectation,
    NumberExpectation,
    OverlapExpectation,
    RefusalExpectation,
    SchemaExpectation,
    TextExpectation,
)
from tunegate_api.cases.golden import GoldenCase
from tunegate_api.verdict.outcomes import ERROR, PASS
from tunegate_trainer.evaluate.contradictions.claims import PLAIN, Claim
from tunegate_trainer.evaluate.contradictions.conditions import Condition, both
from tunegate_trainer.evaluate.golden_references import plain_reference
from tunegate_trainer.evaluate.scorers import SCORERS, Sample


def known_output_contradictions(
    conditions: Sequence[Condition], claims: Sequence[Claim], case: GoldenCase
) -> Iterator[str]:
    """Find conditions that an output does not meet whose text, apart from white space at its ends, or whose
    JSON value is known."""
    for claim in claims:
        if claim.part == "Whole" and claim.view == PLAIN and not claim.condition.negated:
            others = [each for each in conditions if _ignores_white_space(each)]
            yield from _unmet(claim.condition, claim.text, others, case)
    for condition in conditions:
        if isinstance(condition.leaf, JsonExpectation) and not condition.negated:
            text = _json_text(condition.leaf.value)
            others = [each for each in conditions if _compares_value(each)]
            yield from _unmet(condition, text, others, case) if text else ()


def _unmet(known: Condition, output: str, others: Sequence[Condition], case: GoldenCase) -> Iterator[str]:
    for other in others:
        reference = plain_reference(other.leaf, labels={})
        (score,) = SCORERS[other.leaf.type].score([Sample("", output, reference, case)])
        is_decided = score.outcome != ERROR and not score.undecided
        if is_decided and (score.outcome == PASS) == other.negated:
            yield both(known, other)


def _ignores_white_space(condition: Condition) -> bool:
    """Whether white space at the ends of an output has no influence. White space that JSON does not allow
    only has one on ``not``. Claims compare the other texts."""
    match condition.leaf:
        case TextExpectation(type="regex"):
            return condition.leaf.trim
        case NumberExpectation() | OverlapExpectation() | LengthExpectation() | RefusalExpectation():
            return True
        case JsonExpectation() | SchemaExpectation():
            return not condition.negated
        case _:
            return False


_OF_TEXT = ("$schema", "$ref", "$dynamicRef", "multipleOf")
"""Keywords of a schema that may distinguish texts of the same JSON value."""


def _compares_value(condition: Condition) -> bool:
    """Whether a condition gives all texts of the same JSON value the same score. 1 and 1.0 have the same
    value, but differ in early drafts, which a schema can also refer to, and may differ as multiples of a
    large number."""
    if isinstance(condition.leaf, SchemaExpectation):
        return not any(f'"{keyword}"' in condition.fields for keyword in _OF_TEXT)
    return isinstance(condition.leaf, JsonExpectation)


def _json_text(value: object) -> str | None:
    """Return a JSON value as text, or None if Python cannot write it."""
    try:
        return json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return None
