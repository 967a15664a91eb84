"""What the cache keeps of an object: only what decisions are made from.

Whoever may create objects chooses their labels, annotations and owner references, up to a megabyte of each,
and the data of ConfigMaps. None of that may decide how much memory the operator takes.
"""

from typing import Any

from tunegate_operator.engine.cluster import Object
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
"""Kinds of which only the metadata is kept. Their content is fetched when a decision reads it."""
_STATUS_ONLY = frozenset({"Job", "Pod"})
"""Kinds whose spec no decision reads."""
_FIELDS = frozenset(
    {"name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp"}
)
_LABELS = frozenset({*MANAGED_LABELS, JOB_LABEL, ROLE_LABEL, STAGE_LABEL, ATTEMPT_LABEL})
_ANNOTATIONS = frozenset({CONTINUE_ANNOTATION, DISCARD_ANNOTATION})
_MAX_REFERENCE = 1024
"""Characters of an owner reference. The API server limits none of its fields; a name has at most 253."""


def kept(obj: Object) -> Object:
    """The part of an object that decisions read. Labels, annotations and owners of others are left out, so
    what is kept must never replace an object in the cluster."""
    metadata = obj["metadata"]
    small: Object = {field: value for field, value in metadata.items() if field in _FIELDS}
    for field, ours in (("labels", _LABELS), ("annotations", _ANNOTATIONS)):
        found = {key: value for key, value in (metadata.get(field) or {}).items() if key in ours}
        if found:
            small[field] = found
    owners = [owner for owner in metadata.get("ownerReferences") or () if _is_kept(owner)]
    if owners:
        small["ownerReferences"] = owners
    if obj["kind"] in FETCHED_KINDS:
        return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": small}
    without = ("metadata", "spec") if obj["kind"] in _STATUS_ONLY else ("metadata",)
    return {field: value for field, value in obj.items() if field not in without} | {"metadata": small}


def _is_kept(owner: dict[str, Any]) -> bool:
    """Whether it is the controlling owner, of which there is at most one, and no longer than names are."""
    size = sum(len(str(value)) for value in owner.values())
    return bool(owner.get("controller")) and size <= _MAX_REFERENCE
