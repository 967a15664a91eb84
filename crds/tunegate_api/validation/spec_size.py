"""How large a spec may be: parts of it are free-form, and the types do not limit those."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

KIB = 1024
MAX_SPEC_BYTES = {"EvalGate": 256 * KIB, "FineTuneJob": 64 * KIB}
"""Bytes of a spec as JSON. An EvalGate may hold its golden set."""
TOO_LARGE = "left out, because it is too large"
"""Stands for a spec that is too large, where the operator keeps objects. A spec itself is a mapping."""
_ADVICE = {
    "EvalGate": "move the cases to a ConfigMap, and name it in golden.source.configMap",
    "FineTuneJob": "shorten podTemplate, and move JSON schemas to ConfigMaps (schema.configMap)",
}


def is_too_large(kind: str, spec: Mapping[str, Any]) -> bool:
    """Whether a spec of one of our kinds has more bytes than it may have."""
    return _size(spec) > MAX_SPEC_BYTES[kind]


def too_large(kind: str) -> str:
    """What is wrong with a spec that is too large, and what to do."""
    return f"larger than {MAX_SPEC_BYTES[kind] // KIB} KiB as JSON: {_ADVICE[kind]}"


def _size(spec: Mapping[str, Any]) -> int:
    """Bytes as JSON without spaces. What JSON cannot carry counts as text."""
    try:
        return len(to_json(spec, fallback=str))
    except ValueError:  # nested too deeply for pydantic
        return len(json.dumps(spec, separators=(",", ":"), default=str))
