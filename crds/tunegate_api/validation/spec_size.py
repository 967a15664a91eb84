"""Check the size of a whole spec, because the types do not limit the size of free-form fields."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

KIB = 1024
MAX_SPEC_BYTES = {"EvalGate": 256 * KIB, "FineTuneJob": 64 * KIB}
"""Maximum size of a spec as JSON, in bytes. The limit is higher for an EvalGate, because it may contain a
golden set."""
TOO_LARGE = "left out, because it is too large"
"""Value that the operator's cache stores instead of a spec that is too large. A valid spec is never a string,
but a mapping."""
_ADVICE = {
    "EvalGate": "move inline cases to a ConfigMap, and name it in configMap of golden.source or "
    "safety.source",
    "FineTuneJob": "shorten podTemplate, and move JSON schemas to ConfigMaps (schema.configMap)",
}


def is_too_large(kind: str, spec: Mapping[str, Any]) -> bool:
    """Return whether the spec of a FineTuneJob or EvalGate is too large."""
    return _size(spec) > MAX_SPEC_BYTES[kind]


def too_large(kind: str) -> str:
    """Return the error message for a spec that is too large."""
    return f"larger than {MAX_SPEC_BYTES[kind] // KIB} KiB as JSON: {_ADVICE[kind]}"


def _size(spec: Mapping[str, Any]) -> int:
    """Return the size of ``spec`` as JSON without spaces, in bytes. Values that JSON cannot represent count
    as strings."""
    try:
        return len(to_json(spec, fallback=str))
    except ValueError:  # nested too deeply for pydantic
        return len(json.dumps(spec, separators=(",", ":"), default=str))
