"""References of a JSON schema: within it they are followed, out of it they are refused before training."""

import json

import pytest

from support.trainer_root import gate_spec
from tunegate_trainer.chat import load_tokenizer
from tunegate_trainer.data.measures import check_measures
from tunegate_trainer.errors import BadDataError

REMOTE = "https://example.invalid/order.json"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"


def check(make_root, tiny_model, schema: dict[str, object]) -> None:
    case = {"id": "a", "prompt": "b", "expect": [{"type": "json_schema", "schema": schema}]}
    check_measures(make_root(gates={"orders": gate_spec([case])}).context(), load_tokenizer(tiny_model))


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
def test_a_schema_that_holds_what_it_refers_to_is_taken(make_root, tiny_model, schema):
    check(make_root, tiny_model, schema)


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
def test_a_reference_that_leads_nowhere_is_named(make_root, tiny_model, schema, reference):
    with pytest.raises(BadDataError) as raised:
        check(make_root, tiny_model, schema)
    assert str(raised.value) == (
        f"EvalGate orders, case a: the schema's reference {reference} leads nowhere; "
        "it may refer to its own parts alone"
    )
