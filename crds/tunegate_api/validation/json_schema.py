"""Find common errors in a JSON schema without a JSON schema library.

The operator does not depend on a JSON schema library. The trainer depends on one, and checks schemas fully
before training. This module only finds types that do not exist, and keywords with values of the wrong type.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

Path = tuple[str | int, ...]

TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
"""The allowed values of the keyword ``type``."""

_SCHEMA = ("additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then")
_LISTS = ("allOf", "anyOf", "items", "oneOf", "prefixItems")
"""Keywords whose value is a list of schemas. ``items`` may be a list in earlier drafts."""
_MAPPINGS = ("$defs", "definitions", "patternProperties", "properties")
"""Keywords whose value maps names to schemas."""


def schema_faults(schema: object) -> Iterator[tuple[Path, str]]:
    """Yield the path of each fault in ``schema``, and a message that says what the value must be.

    The function does not recurse, so a deeply nested schema cannot exceed Python's recursion limit.
    """
    if not isinstance(schema, Mapping):
        yield (), f"a JSON schema must be a mapping, not {_kind(schema)}"
        return
    waiting: deque[tuple[Path, Any]] = deque([((), schema)])
    while waiting:
        path, part = waiting.popleft()
        if isinstance(part, bool):  # true allows every value, false none
            continue
        if not isinstance(part, Mapping):
            yield path, f"must be a schema, which is a mapping, not {_kind(part)}"
            continue
        for name, fault in _keyword_faults(part):
            yield (*path, name), fault
        waiting += (((*path, *inner), schema) for inner, schema in _schemas_in(part))


def _keyword_faults(part: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the faults of the keywords of one schema. Nested schemas are not checked."""
    if "type" in part and not _is_type(part["type"]):
        yield "type", f"must be one of {', '.join(TYPES)}, or a list of these"
    if "required" in part and not _is_texts(part["required"]):
        yield "required", "must be a list of names of properties"
    for name in _MAPPINGS:
        if name in part and not isinstance(part[name], Mapping):
            yield name, f"must be a mapping of names to schemas, not {_kind(part[name])}"
    for name in _LISTS:
        if name in part and name not in _SCHEMA and not isinstance(part[name], list):
            yield name, f"must be a list of schemas, not {_kind(part[name])}"


def _schemas_in(part: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    for name, value in part.items():
        if name in _MAPPINGS and isinstance(value, Mapping):
            yield from (((name, key), schema) for key, schema in value.items())
        elif name in _LISTS and isinstance(value, list):
            yield from (((name, i), schema) for i, schema in enumerate(value))
        elif name in _SCHEMA:
            yield (name,), value


def _is_type(value: object) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(word, str) and word in TYPES for word in value)
    return isinstance(value, str) and value in TYPES


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _kind(value: object) -> str:
    names: dict[type, str] = {list: "a list", str: "a text", type(None): "empty"}
    return "a mapping" if isinstance(value, Mapping) else names.get(type(value), f"{value}".lower())
