"""Contradictions between expectations of JSON and other expectations, by the type of the JSON value."""

from collections.abc import Iterator, Sequence
from itertools import combinations, product
from typing import Any

from tunegate_api.cases.expectations import JsonExpectation, SchemaExpectation
from tunegate_trainer.evaluate.contradictions.claims import PLAIN, Claim
from tunegate_trainer.evaluate.contradictions.conditions import Condition, both

_STARTS = {
    "array": "[",
    "boolean": "tf",
    "null": "n",
    "number": "-0123456789",
    "object": "{",
    "string": '"',
}
"""The first characters of JSON values, by type."""


def json_contradictions(conditions: Sequence[Condition], claims: Sequence[Claim]) -> Iterator[str]:
    """Find types of JSON values that exclude each other, or the start of the output."""
    expected = [(each, types) for each in conditions if (types := _types(each))]
    for (one, types), (other, others) in combinations(expected, 2):
        if not types & others:
            yield both(one, other)
    starts = [each for each in claims if each.part == "Start" and each.view == PLAIN]
    for (one, types), claim in product(expected, starts):
        firsts = "".join(_STARTS[each] for each in types)
        if claim.text and not claim.condition.negated and claim.text[0] not in firsts:
            yield both(one, claim.condition)


def _types(condition: Condition) -> set[str]:
    """Return the types of JSON values that may meet a condition, or nothing if it does not require JSON."""
    if condition.negated:
        return set()
    if isinstance(condition.leaf, JsonExpectation):
        return {_type(condition.leaf.value)}
    if not isinstance(condition.leaf, SchemaExpectation):
        return set()
    schema = condition.leaf.schema_
    if "type" not in schema or "$ref" in schema:  # early drafts ignore what is beside $ref
        return set(_STARTS)
    names = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    return {"number" if name == "integer" else name for name in names}


def _type(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"
