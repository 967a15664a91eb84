"""Inferring a JSON schema from values: it accepts every value, and refuses other kinds of values."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tunegate_trainer.data.answer_schema import DRAFT, MAX_CHOICES, ValueSchema


def inferred(*values: Any) -> dict[str, Any]:
    schema = ValueSchema()
    for value in values:
        schema.add(value)
    return schema.schema()


def test_only_keys_that_all_objects_have_are_required():
    schema = inferred({"item": "mug", "note": "red"}, {"item": "cup"})
    assert schema == {
        "type": "object",
        "properties": {"item": {"type": "string"}, "note": {"type": "string"}},
        "required": ["item"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("values", "schema"),
    [
        ([1, 2], {"type": "integer"}),
        ([1, 2.5], {"type": "number"}),
        ([2.5, 1], {"type": "number"}),
        ([True], {"type": "boolean"}),
        ([1, None], {"type": ["integer", "null"]}),
        (["a", 1], {"type": ["string", "integer"]}),
        ([[1], [2.5]], {"type": "array", "items": {"type": "number"}}),
        ([[]], {"type": "array"}),
        (["yes", "no"] * 10, {"type": "string", "enum": ["yes", "no"]}),
        (["yes", None] * 10, {"type": ["string", "null"], "enum": ["yes", None]}),
        (["yes", "no"] * 9, {"type": "string"}),
        (["yes", 1] * 10, {"type": ["string", "integer"]}),
        ([str(i % (MAX_CHOICES + 1)) for i in range(1000)], {"type": "string"}),
        (["x" * 65] * 20, {"type": "string"}),
    ],
    ids=str,
)
def test_type_and_choices_are_inferred(values, schema):
    assert inferred(*values) == schema


def test_object_with_many_different_keys_is_a_map():
    assert inferred(*({f"key {i}": 1} for i in range(100))) == {"type": "object"}


def test_nested_values_are_described_to_a_limited_depth():
    value: dict[str, Any] = {"text": "end"}
    for _ in range(20):
        value = {"inner": value}
    schema = inferred(value)
    Draft202012Validator(schema).validate(value)
    assert '"end"' not in str(schema)
    assert len(str(schema)) < 2000


def test_schema_is_valid_and_refuses_what_no_row_has():
    rows = [{"item": "mug", "quantity": i, "size": "SML"[i % 3], "tags": ["a"]} for i in range(60)]
    validator = Draft202012Validator({"$schema": DRAFT, **inferred(*rows)})
    Draft202012Validator.check_schema(validator.schema)
    assert all(validator.is_valid(row) for row in rows)
    for change in ({"quantity": "2"}, {"size": "XL"}, {"colour": "red"}, {"tags": "a"}):
        assert not validator.is_valid(rows[0] | change), change
    assert not validator.is_valid({"item": "mug"})
