"""The check schemas refuses JSON schemas with references outside themselves."""

import json
from collections.abc import Callable

import pytest

from tunegate_api.cases.case_lines import parse_cases
from tunegate_api.cases.golden import GoldenCase
from tunegate_trainer.checks import schemas
from tunegate_trainer.checks.finding import CheckContext, Finding
from tunegate_trainer.tokens.chat import load_tokenizer

REMOTE = "https://example.invalid/order.json"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"


@pytest.fixture
def check(make_root, tiny_model) -> Callable[[dict[str, object]], list[Finding]]:
    """Run the check on the schema of a golden case."""

    def run(schema: dict[str, object]) -> list[Finding]:
        case = {"id": "a", "prompt": "b", "expect": [{"type": "json_schema", "schema": schema}]}
        golden = {"orders": parse_cases(json.dumps(case), GoldenCase)}
        return list(
            schemas.run({}, CheckContext(make_root().context().request, load_tokenizer(tiny_model), golden))
        )

    return run


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/item", "$defs": {"item": {"type": "string"}}},
        {"$schema": DRAFT_7, "properties": {"a": {"$ref": "#/definitions/b"}}, "definitions": {"b": {}}},
        {"$id": "https://example.invalid/a.json", "items": {"$ref": "a.json"}},
        {"$ref": "#word", "$defs": {"item": {"$anchor": "word"}}},
        {"$ref": "https://json-schema.org/draft/2020-12/schema"},
        {"type": "object", "properties": {"$ref": {"type": "string"}}},
        {"enum": [{"$ref": REMOTE}]},
    ],
    ids=json.dumps,
)
def test_schema_that_refers_to_its_own_parts_is_accepted(check, schema):
    assert check(schema) == []


@pytest.mark.parametrize(
    ("schema", "reference"),
    [
        ({"$ref": REMOTE}, REMOTE),
        ({"properties": {"a": {"items": {"anyOf": [{"$ref": REMOTE}]}}}}, REMOTE),
        ({"$schema": DRAFT_7, "definitions": {"b": {"$ref": "order.json"}}}, "order.json"),
        ({"$ref": "#/$defs/order"}, "#/$defs/order"),
        ({"$ref": "#/shared/a", "shared": {"a": {"$ref": REMOTE}}}, REMOTE),
        ({"$ref": "#/maxLength/a", "maxLength": 3}, "#/maxLength/a"),
        ({"$dynamicRef": "#node"}, "#node"),
    ],
)
def test_unresolvable_reference_in_a_schema_is_named(check, schema, reference):
    (finding,) = check(schema)
    assert finding.message == (
        f"EvalGate orders, case a: the reference {reference} cannot be resolved; "
        "a schema may refer only to its own parts"
    )
