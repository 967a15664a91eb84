"""Check the size and nesting of a whole spec, because the types do not limit free-form fields."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

KIB = 1024
MAX_SPEC_BYTES = {"EvalGate": 256 * KIB, "FineTuneJob": 64 * KIB}
"""Maximum size of a spec as JSON, in bytes. The limit is higher for an EvalGate, because it may contain a
golden set."""
MAX_SPEC_LEVELS = 300
"""The most levels of mappings and lists that a spec may have, because code that copies or parses it
recurses."""
TOO_LARGE = "left out, because it is too large"
"""Value that the operator's cache stores instead of a spec that is too large or nested too deeply. A valid
spec is never a string, but a mapping."""
_ADVICE = {
    "EvalGate": "move inline cases to a ConfigMap, and name it in configMap of golden.source or "
    "safety.source",
    "FineTuneJob": "shorten podTemplate, and move JSON schemas to ConfigMaps (schema.configMap)",
}


def is_too_large(kind: str, spec: Mapping[str, Any]) -> bool:
    """Return whether the spec of a FineTuneJob or EvalGate is too large, or nested too deeply."""
    try:
        size = len(to_json(spec, fallback=str))
    except ValueError:  # nested too deeply for pydantic
        if _has_more_levels(spec, MAX_SPEC_LEVELS):
            return True
        size = len(json.dumps(spec, separators=(",", ":"), default=str))
    return size > MAX_SPEC_BYTES[kind]


def too_large(kind: str) -> str:
    """Return the error message for a spec that is too large or nested too deeply."""
    size = f"larger than {MAX_SPEC_BYTES[kind] // KIB} KiB as JSON"
    return f"{size}, or nested in more than {MAX_SPEC_LEVELS} levels: {_ADVICE[kind]}"


def _has_more_levels(value: Any, most: int) -> bool:
    """Return whether mappings and lists are nested in more than ``most`` levels. Does not recurse."""
    level = [value]
    for _ in range(most + 1):
        containers = [each for each in level if isinstance(each, Mapping | list)]
        level = [x for each in containers for x in (each.values() if isinstance(each, Mapping) else each)]
    return bool(containers)
