"""The rules of structural schemas, as Kubernetes checks them when a CRD is applied."""

from collections.abc import Iterator
from typing import Any

FORBIDDEN = {
    "$ref",
    "$defs",
    "allOf",
    "anyOf",
    "const",
    "default",
    "definitions",
    "dependencies",
    "deprecated",
    "discriminator",
    "examples",
    "id",
    "not",
    "nullable",
    "oneOf",
    "patternProperties",
    "propertyNames",
    "readOnly",
    "title",
    "uniqueItems",
    "writeOnly",
    "xml",
}
TYPES = {"object", "array", "string", "integer", "number", "boolean"}


def violations(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Return a description of each part of ``schema`` that the API server, or this project, does not
    allow."""
    free = schema.get("x-kubernetes-preserve-unknown-fields") is True
    for key in sorted(FORBIDDEN & schema.keys()):
        yield f"{path}: {key}"
    if (schema.get("type") in TYPES) == (schema.get("x-kubernetes-int-or-string") is True) and not free:
        yield f"{path}: no type, or a type beside x-kubernetes-int-or-string"
    if "properties" in schema and "additionalProperties" in schema:
        yield f"{path}: properties and additionalProperties"
    if isinstance(schema.get("additionalProperties"), bool):
        yield f"{path}: additionalProperties is not a schema"
    if schema.get("type") == "array" and "items" not in schema:
        yield f"{path}: an array without items"
    if (
        schema.get("type") == "object"
        and not free
        and not {"properties", "additionalProperties"} & schema.keys()
    ):
        yield f"{path}: an object without fields"
    for bound in ("exclusiveMinimum", "exclusiveMaximum"):
        if not isinstance(schema.get(bound, True), bool):
            yield f"{path}: {bound} is a number"
    if unknown := set(schema.get("required", [])) - schema.get("properties", {}).keys():
        yield f"{path}: requires {sorted(unknown)}, which it has not"
    for name, field in schema.get("properties", {}).items():
        yield from violations(field, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from violations(schema[key], f"{path}[]")


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the path and the schema of each named field."""
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}", field
        yield from fields(field, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from fields(schema[key], f"{path}[]")


def unbounded(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Return the paths of lists and maps without a maximum size. The API server could not estimate the cost
    of CEL rules for them."""
    for name, field in fields(schema, path):
        if field.get("type") == "array" and "maxItems" not in field:
            yield f"{name}: maxItems"
        if field.get("type") == "string" and "maxLength" not in field and "enum" not in field:
            yield f"{name}: maxLength"
