"""Replace references inside a promptfoo configuration, such as those to ``assertionTemplates``."""

from collections.abc import Mapping
from typing import Any

from tunegate_client.imports.imported import NotCarriedError

_MAX_DEPTH = 64


def resolved(value: Any, config: Mapping[str, Any], depth: int = 0) -> Any:
    """Return a value with the parts of ``config`` that it refers to. Fields beside ``$ref`` take precedence.

    Raises :class:`NotCarriedError` if a reference does not lead to a part of ``config``.
    """
    if depth > _MAX_DEPTH:
        raise NotCarriedError("$ref", "the references form a cycle, or the values are nested too deeply")
    if isinstance(value, list):
        return [resolved(each, config, depth + 1) for each in value]
    if not isinstance(value, Mapping):
        return value
    reference = value.get("$ref")
    if not isinstance(reference, str):
        return {name: resolved(each, config, depth + 1) for name, each in value.items()}
    target = _target(reference, config)
    own = {name: each for name, each in value.items() if name != "$ref"}
    merged = {**target, **own} if isinstance(target, Mapping) and own else target
    return resolved(merged, config, depth + 1)


def _target(reference: str, config: Any) -> Any:
    found = config
    for name in reference.split("/")[1:]:
        found = found.get(name) if isinstance(found, Mapping) else None
    if not reference.startswith("#/") or found is None:
        raise NotCarriedError("$ref", f"{reference} is no part of this file")
    return found
