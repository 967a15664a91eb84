"""Prune objects for the cache: keep only the fields that decisions read.

Users choose labels, annotations and owner references (up to a megabyte of each), the data of ConfigMaps, and
the free-form parts of a spec. Anyone with permission to write a status chooses its size. Pruning keeps them
from determining how much memory the operator needs.
"""

from typing import Any

from tunegate_api.validation.spec_size import MAX_SPEC_BYTES, TOO_LARGE, is_too_large
from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.objects import write_json
from tunegate_operator.names import (
    ATTEMPT_LABEL,
    CONTINUE_ANNOTATION,
    DISCARD_ANNOTATION,
    JOB_LABEL,
    MANAGED_LABELS,
    ROLE_LABEL,
    STAGE_LABEL,
)

FETCHED_KINDS = frozenset({"ConfigMap"})
"""Kinds that are cached with their metadata only. Their content is fetched when a decision reads it."""
_STATUS_ONLY = frozenset({"Job", "Pod"})
"""Kinds whose spec is dropped, because no decision reads it."""
_FIELDS = frozenset(
    {"name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp"}
)
_LABELS = frozenset({*MANAGED_LABELS, JOB_LABEL, ROLE_LABEL, STAGE_LABEL, ATTEMPT_LABEL})
_ANNOTATIONS = frozenset({CONTINUE_ANNOTATION, DISCARD_ANNOTATION})
_MAX_REFERENCE = 1024
"""Characters of an owner reference. The API server does not limit its fields; a name has at most 253."""
MAX_ANNOTATION = 4096
"""Bytes of an annotation as JSON. A longer value is replaced by an empty text."""
MAX_STATUS = 128 * 1024
"""Bytes of a status as JSON. A larger status is dropped: the operator's own have at most 32 KiB, so somebody
else wrote it."""


def prune(obj: Object) -> Object:
    """Return the fields of an object that decisions read.

    The result lacks labels, annotations and owner references of others, so never write it to the cluster.
    """
    metadata = obj["metadata"]
    small: Object = {field: value for field, value in metadata.items() if field in _FIELDS}
    for field, ours in (("labels", _LABELS), ("annotations", _ANNOTATIONS)):
        found = {key: _text(value) for key, value in (metadata.get(field) or {}).items() if key in ours}
        if found:
            small[field] = found
    owners = [owner for owner in metadata.get("ownerReferences") or () if _is_controller(owner)]
    if owners:
        small["ownerReferences"] = owners
    if obj["kind"] in FETCHED_KINDS:
        return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": small}
    result = {field: value for field, value in obj.items() if field not in ("metadata", "spec", "status")}
    result["metadata"] = small
    if "spec" in obj and obj["kind"] not in _STATUS_ONLY:
        result["spec"] = _spec(obj["kind"], obj["spec"])
    if "status" in obj and len(write_json(obj["status"])) <= MAX_STATUS:
        result["status"] = obj["status"]
    return result


def _text(value: str) -> str:
    return value if len(write_json(value)) <= MAX_ANNOTATION else ""


def _spec(kind: str, spec: Any) -> Any:
    """Return the spec, or TOO_LARGE, which ``find_problems`` reports like an oversized spec."""
    is_ours = kind in MAX_SPEC_BYTES and isinstance(spec, dict)
    return TOO_LARGE if is_ours and is_too_large(kind, spec) else spec


def _is_controller(owner: dict[str, Any]) -> bool:
    """Return whether a reference names the controlling owner and has a plausible length."""
    size = sum(len(str(value)) for value in owner.values())
    return bool(owner.get("controller")) and size <= _MAX_REFERENCE
