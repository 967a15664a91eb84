"""Prune objects for the cache: keep only the fields that decisions read.

Users choose the size of labels, annotations, finalizers and owner references (up to a megabyte each), of the
data of ConfigMaps, and of the free-form parts of a spec. Anyone with permission to write a status chooses its
size. Pruning limits the memory that the operator needs, whatever these sizes are.
"""

from typing import Any

from tunegate_api.validation.spec_size import MAX_SPEC_BYTES, TOO_LARGE, is_too_large
from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.objects import write_json
from tunegate_operator.engine.own_pods import pod_digests
from tunegate_operator.names import (
    APPROVE_ANNOTATION,
    ATTEMPT_LABEL,
    COLLECTOR_FINALIZERS,
    CONTINUE_ANNOTATION,
    DISCARD_ANNOTATION,
    FILES_FINALIZER,
    JOB_LABEL,
    MANAGED_LABELS,
    OVERRIDE_ANNOTATION,
    REJECT_ANNOTATION,
    REVIEW_LABEL,
    ROLE_LABEL,
    STAGE_LABEL,
)

FETCHED_KINDS = frozenset({"ConfigMap"})
"""Kinds of which watches and lists cache only the metadata. The content is read from the cluster when a
decision needs it, and stays cached while there is room."""
_FIELDS = frozenset(
    {"name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp"}
)
_LABELS = frozenset({*MANAGED_LABELS, JOB_LABEL, ROLE_LABEL, STAGE_LABEL, ATTEMPT_LABEL, REVIEW_LABEL})
_ANNOTATIONS = frozenset(
    {
        CONTINUE_ANNOTATION,
        DISCARD_ANNOTATION,
        APPROVE_ANNOTATION,
        OVERRIDE_ANNOTATION,
        REJECT_ANNOTATION,
    }
)
_FINALIZERS = frozenset({FILES_FINALIZER, *COLLECTOR_FINALIZERS})
_MAX_REFERENCE = 1024
"""The most characters that a cached owner reference may have. A longer reference is left out. The API server
accepts references of any length, but valid names have at most 253 characters."""
MAX_ANNOTATION = 4096
"""The most bytes that the value of a label or annotation may have as JSON. A longer value is replaced by an
empty string."""
MAX_STATUS = 128 * 1024
"""The most bytes that a status may have as JSON. A larger status is dropped, because the operator did not
write it: its statuses have at most 32 KiB."""


def prune(obj: Object) -> tuple[Object, bytes]:
    """Return the fields of an object that decisions read, and the same as JSON.

    Never write the result to the cluster: it lacks, for example, the labels, annotations and finalizers that
    other clients set.
    """
    small = _with_read_fields(obj)
    text = write_json(small)
    if len(text) > MAX_STATUS and "status" in small and len(write_json(small["status"])) > MAX_STATUS:
        del small["status"]
        text = write_json(small)
    return small, text


def is_kept(value: str) -> bool:
    """Return whether the value of a label or annotation is short enough to be cached."""
    return len(write_json(value)) <= MAX_ANNOTATION


def _with_read_fields(obj: Object) -> Object:
    metadata = obj["metadata"]
    small: Object = {field: value for field, value in metadata.items() if field in _FIELDS}
    for field, ours in (("labels", _LABELS), ("annotations", _ANNOTATIONS)):
        found = {key: _text(value) for key, value in (metadata.get(field) or {}).items() if key in ours}
        if found:
            small[field] = found
    finalizers = sorted(_FINALIZERS.intersection(metadata.get("finalizers") or ()))
    if finalizers:
        small["finalizers"] = finalizers
    owners = [owner for owner in metadata.get("ownerReferences") or () if _is_controller(owner)]
    if owners:
        small["ownerReferences"] = owners
    if obj["kind"] in FETCHED_KINDS:
        return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": small}
    result = {field: value for field, value in obj.items() if field not in ("metadata", "spec")}
    result["metadata"] = small
    if "spec" in obj and obj["kind"] in ("Job", "Pod"):
        result["digests"] = pod_digests(obj)
    elif "spec" in obj:
        result["spec"] = _spec(obj["kind"], obj["spec"])
    return result


def _text(value: str) -> str:
    return value if is_kept(value) else ""


def _spec(kind: str, spec: Any) -> Any:
    """Return the spec, or TOO_LARGE in place of an oversized spec. ``find_problems`` reports TOO_LARGE."""
    is_ours = kind in MAX_SPEC_BYTES and isinstance(spec, dict)
    return TOO_LARGE if is_ours and is_too_large(kind, spec) else spec


def _is_controller(owner: dict[str, Any]) -> bool:
    """Return whether an owner reference names the controlling owner and is not too long to be cached."""
    size = sum(len(str(value)) for value in owner.values())
    return bool(owner.get("controller")) and size <= _MAX_REFERENCE
