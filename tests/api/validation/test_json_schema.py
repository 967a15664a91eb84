"""Faults of invalid JSON schemas are reported with their paths; valid schemas have none."""

import pytest

from tunegate_api.validation.json_schema import schema_faults

NESTED = {"$defs": {"row": {"anyOf": [{"items": {"type": "text"}}]}}}

FAULTS: list[tuple[str, object, str]] = [
    ("a list", [{"type": "object"}], ": a JSON schema must be a mapping, not a list"),
    ("an unknown type", {"type": "text"}, "type: must be one of array, boolean, integer, null,"),
    ("a type in capitals", {"type": "Object"}, "type: must be one of array,"),
    ("a list with an unknown type", {"type": ["string", "text"]}, "type: must be one of array,"),
    ("an empty list of types", {"type": []}, "type: must be one of array,"),
    ("properties as a list", {"properties": ["a"]}, "properties: must be a mapping of names to schemas, not"),
    ("a property without a schema", {"properties": {"a": "string"}}, "properties.a: must be a schema, which"),
    (
        "an empty property",
        {"properties": {"a": None}},
        "properties.a: must be a schema, which is a mapping, not",
    ),
    ("required as a boolean", {"required": True}, "required: must be a list of names of properties"),
    ("a required number", {"required": ["a", 1]}, "required: must be a list of names of properties"),
    ("items that are text", {"items": "string"}, "items: must be a schema, which is a mapping, not a text"),
    ("anyOf as a mapping", {"anyOf": {}}, "anyOf: must be a list of schemas, not a mapping"),
    ("a nested fault", NESTED, "$defs.row.anyOf.0.items.type: must be one of array,"),
]


@pytest.mark.parametrize(("schema", "message"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_invalid_schema_is_reported_with_its_path(schema: object, message: str) -> None:
    (fault,) = schema_faults(schema)
    assert f"{'.'.join(map(str, fault[0]))}: {fault[1]}".startswith(message)


GOOD: list[tuple[str, object]] = [
    ("an empty schema", {}),
    ("several types", {"type": ["object", "null"]}),
    ("a property named type", {"properties": {"type": {"type": "string"}, "required": {}}}),
    ("values that look like schemas", {"enum": [{"type": "text"}], "const": {"required": 1}}),
    ("true and false", {"properties": {"a": True}, "additionalProperties": False, "items": False}),
    ("a tuple of an earlier draft", {"items": [{"type": "string"}, {"type": "integer"}]}),
    ("a custom keyword", {"x-note": "text", "type": "object"}),
]


@pytest.mark.parametrize("schema", [row[1] for row in GOOD], ids=[row[0] for row in GOOD])
def test_valid_schema_has_no_faults(schema: object) -> None:
    assert list(schema_faults(schema)) == []


def test_all_faults_of_a_schema_are_reported() -> None:
    schema = {"type": "map", "properties": {"a": {"type": "int"}}, "required": "a"}
    assert [".".join(map(str, path)) for path, _ in schema_faults(schema)] == [
        "type",
        "required",
        "properties.a.type",
    ]


def test_deeply_nested_schema_is_checked() -> None:
    schema: dict[str, object] = {"type": "text"}
    for _ in range(5000):
        schema = {"items": schema}
    assert len(list(schema_faults(schema))) == 1
