"""Prove that no output can pass a golden case, because its expectations contradict each other.

Each rule is sound: it never names expectations that some output passes. No rule is complete, so a case
without a contradiction may be impossible to pass.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

from tunegate_api.cases.golden import GoldenCase
from tunegate_api.meta import shorten
from tunegate_trainer.evaluate.contradictions.claims import claims_of, text_contradictions
from tunegate_trainer.evaluate.contradictions.conditions import Condition, both, ways
from tunegate_trainer.evaluate.contradictions.json_types import json_contradictions
from tunegate_trainer.evaluate.contradictions.known import known_output_contradictions
from tunegate_trainer.evaluate.contradictions.lengths import length_contradictions
from tunegate_trainer.evaluate.contradictions.numbers import number_contradictions
from tunegate_trainer.evaluate.contradictions.patterns import pattern_contradictions

_MAX_REASON = 400
"""Maximum length of a reason, in characters."""


def contradiction(case: GoldenCase) -> str | None:
    """Return which expectations of a case no output can pass, as in "both equals 'a' and equals 'b'".

    Returns None if no rule finds a contradiction. If groups can be passed in several ways, the text names a
    contradiction of each way.
    """
    found: list[str] = []
    for conditions in ways(case.expect):
        reason = next(_contradictions(conditions, case), None)
        if reason is None:
            return None
        found.append(reason)
    return shorten(", or ".join(dict.fromkeys(found)), _MAX_REASON)


def _contradictions(conditions: Sequence[Condition], case: GoldenCase) -> Iterator[str]:
    claims = claims_of(conditions)
    yield from _negations(conditions)
    yield from pattern_contradictions(conditions)
    yield from text_contradictions(claims)
    yield from length_contradictions(conditions, claims, allow_empty=case.allow_empty)
    yield from number_contradictions(conditions)
    yield from json_contradictions(conditions, claims)
    yield from known_output_contradictions(conditions, claims, case)


def _negations(conditions: Sequence[Condition]) -> Iterator[str]:
    """Find an expectation together with its opposite."""
    for one, other in combinations(conditions, 2):
        if one.negated != other.negated and one.is_repeatable and one.fields == other.fields:
            yield both(one, other)
