"""JSON schemas that Ajv, as promptfoo sets it up, and the Python package jsonschema evaluate alike."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tunegate_api.validation.json_schema import TYPES
from tunegate_client.imports.imported import NotCarriedError
from tunegate_client.imports.javascript import MAX_SAFE

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
"""The draft that Ajv assumes."""
_DRAFTS = {DRAFT_7, DRAFT_7.removesuffix("#")}
_NOTES = {"title", "description", "default", "examples", "$comment", "readOnly", "writeOnly"}
_COUNTS = {"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"}
_LIMITS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
_SCHEMAS = {"additionalProperties", "items", "not", "propertyNames"}
_LISTS = {"allOf", "anyOf", "oneOf"}
_OTHER = {"type", "required", "enum", "const", "uniqueItems", "properties", "$schema"}
_KNOWN = _NOTES | _COUNTS | _LIMITS | _SCHEMAS | _LISTS | _OTHER


def portable_schema(schema: Any, kind: str) -> dict[str, Any]:
    """Return a schema with its draft. Raises :class:`NotCarriedError` of this ``kind`` if the two packages
    could disagree about the schema."""
    fault = next(_faults(schema, is_root=True), None)
    if fault:
        raise NotCarriedError(kind, f"schema: {fault}")
    return {**schema, "$schema": DRAFT_7}


def _faults(schema: Any, *, is_root: bool = False) -> Iterator[str]:
    if isinstance(schema, bool) and not is_root:
        return
    if not isinstance(schema, Mapping):
        yield "must be a mapping"
        return
    for name, value in schema.items():
        if name not in _KNOWN or (name == "$schema" and not is_root):
            yield f"the keyword {name} is not supported"
        elif name not in _NOTES and not _is_valid(name, value):
            yield f"{name} has a value that is not supported"
        else:
            for each in _inner(name, value):
                yield from _faults(each)


def _inner(name: str, value: Any) -> Iterable[Any]:
    """Return the schemas in the valid value of a keyword."""
    if name in _SCHEMAS:
        return [value]
    if name == "properties":
        return list(value.values())
    return list(value) if name in _LISTS else []


def _is_valid(name: str, value: Any) -> bool:
    if name in _COUNTS:
        return is_integer(value) and 0 <= value < MAX_SAFE
    if name in _LIMITS:
        return is_plain_json(value) and isinstance(value, int | float) and not isinstance(value, bool)
    if name in _LISTS:
        return isinstance(value, list) and bool(value)
    match name:
        case "$schema":
            return value in _DRAFTS
        case "properties":
            return isinstance(value, Mapping)
        case "type":
            names = value if isinstance(value, list) else [value]
            return bool(names) and _are_different_texts(names) and set(names) <= set(TYPES)
        case "required":
            return isinstance(value, list) and _are_different_texts(value)
        case "uniqueItems":
            return isinstance(value, bool)
        case "enum":
            return isinstance(value, list) and bool(value) and is_plain_json(value) and _are_different(value)
        case "const":
            return is_plain_json(value)
        case _:
            return True


def _are_different(values: list[Any]) -> bool:
    return len({json.dumps(_without_floats(each), sort_keys=True) for each in values}) == len(values)


def _without_floats(value: Any) -> Any:
    """Return a JSON value with integers instead of equal floats."""
    if isinstance(value, Mapping):
        return {name: _without_floats(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_without_floats(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _are_different_texts(values: list[Any]) -> bool:
    return all(isinstance(each, str) for each in values) and len(set(values)) == len(values)


def is_integer(value: object) -> bool:
    """Whether a value is an integer, which a boolean is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_plain_json(value: object) -> bool:
    """Whether a value is JSON that Python and JavaScript compare alike: without integers that a double cannot
    have, and without values such as dates."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and is_plain_json(each) for key, each in value.items())
    if isinstance(value, list):
        return all(map(is_plain_json, value))
    if isinstance(value, int | float):
        return abs(value) < MAX_SAFE
    return value is None or isinstance(value, str)
