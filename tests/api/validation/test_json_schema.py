"""Schemas that cannot be one are told by the keys that lead to the fault; good ones are left alone."""

import pytest

from tunegate_api.validation.json_schema import schema_faults

NESTED = {"$defs": {"row": {"anyOf": [{"items": {"type": "text"}}]}}}

FAULTS: list[tuple[str, object, str]] = [
    ("a list", [{"type": "object"}], ": a JSON schema must be a mapping, not a list"),
    ("a type that does not exist", {"type": "text"}, "type: must be one of array, boolean, integer, null,"),
    ("a type in capitals", {"type": "Object"}, "type: must be one of array,"),
    ("a list with a type that does not exist", {"type": ["string", "text"]}, "type: must be one of array,"),
    ("no type at all", {"type": []}, "type: must be one of array,"),
    ("properties in a list", {"properties": ["a"]}, "properties: must be a mapping of names to schemas, not"),
    ("a property without a schema", {"properties": {"a": "string"}}, "properties.a: must be a schema, which"),
    (
        "an empty property",
        {"properties": {"a": None}},
        "properties.a: must be a schema, which is a mapping, not",
    ),
    ("a required switch", {"required": True}, "required: must be a list of names of properties"),
    ("a required number", {"required": ["a", 1]}, "required: must be a list of names of properties"),
    ("items that are text", {"items": "string"}, "items: must be a schema, which is a mapping, not a text"),
    ("a choice that is a mapping", {"anyOf": {}}, "anyOf: must be a list of schemas, not a mapping"),
    ("a fault deep inside", NESTED, "$defs.row.anyOf.0.items.type: must be one of array,"),
]


@pytest.mark.parametrize(("schema", "said"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_a_schema_that_is_none_is_told_where(schema: object, said: str) -> None:
    (fault,) = schema_faults(schema)
    assert f"{'.'.join(map(str, fault[0]))}: {fault[1]}".startswith(said)


GOOD: list[tuple[str, object]] = [
    ("anything", {}),
    ("several types", {"type": ["object", "null"]}),
    ("a property named type", {"properties": {"type": {"type": "string"}, "required": {}}}),
    ("values that look like schemas", {"enum": [{"type": "text"}], "const": {"required": 1}}),
    ("true and false", {"properties": {"a": True}, "additionalProperties": False, "items": False}),
    ("a tuple of an earlier draft", {"items": [{"type": "string"}, {"type": "integer"}]}),
    ("a keyword of its own", {"x-note": "text", "type": "object"}),
]


@pytest.mark.parametrize("schema", [row[1] for row in GOOD], ids=[row[0] for row in GOOD])
def test_nothing_is_said_against_a_schema(schema: object) -> None:
    assert list(schema_faults(schema)) == []


def test_every_fault_of_a_schema_is_told() -> None:
    schema = {"type": "map", "properties": {"a": {"type": "int"}}, "required": "a"}
    assert [".".join(map(str, path)) for path, _ in schema_faults(schema)] == [
        "type",
        "required",
        "properties.a.type",
    ]


def test_a_schema_of_any_depth_is_read() -> None:
    schema: dict[str, object] = {"type": "text"}
    for _ in range(5000):
        schema = {"items": schema}
    assert len(list(schema_faults(schema))) == 1
