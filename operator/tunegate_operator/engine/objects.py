"""Helper functions for Kubernetes objects, which are plain dicts."""

import json
from datetime import UTC, datetime
from typing import Any

from pydantic_core import from_json, to_json

from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.nesting import shallow


def wire(obj: Object) -> Object:
    """Return a deep copy with JSON types only: enums and times become strings, tuples and sets become lists.

    Raises TypeError or ValueError for values that JSON cannot represent.
    """
    try:
        copied: Object = from_json(to_json(obj), allow_inf_nan=False)
    except ValueError:  # nested too deeply for pydantic, or not JSON
        copied = json.loads(json.dumps(obj, allow_nan=False))
    return copied


def read_json(text: bytes) -> Any:
    """Parse JSON. Raises ValueError. Values that are nested too deeply are null, see :func:`shallow`.

    pydantic's parser needs two thirds of the time that Python's parser needs. Python's parser is the
    fallback, because it accepts deeper nesting.
    """
    try:
        return from_json(text)
    except ValueError:
        return json.loads(shallow(text))


def write_json(obj: Any) -> bytes:
    """Return an object as JSON for :func:`read_json`.

    pydantic's encoder needs a seventh of the time that Python's encoder needs. Python's encoder is the
    fallback for objects that pydantic refuses.
    """
    try:
        return to_json(obj)
    except ValueError:
        return json.dumps(obj).encode()


def without_managed_fields(obj: Object) -> Object:
    """Return the object without managedFields, which are half of its size. The API server keeps managedFields
    when an object without them replaces one that has them."""
    if "managedFields" not in obj.get("metadata", {}):
        return obj
    metadata = {field: value for field, value in obj["metadata"].items() if field != "managedFields"}
    return obj | {"metadata": metadata}


def uid_of(obj: Object) -> str:
    """Return the uid of an object."""
    uid: str = obj["metadata"]["uid"]
    return uid


def resource_version(obj: Object) -> int:
    """Return the resourceVersion as a number, or 0 if there is none. Within one kind, a higher number is a
    later version (KEP-5504)."""
    return int(obj["metadata"].get("resourceVersion") or 0)


def is_being_deleted(obj: Object) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


def has_condition(obj: Object, type: str) -> bool:
    """Return whether the object has this condition with status True."""
    conditions = obj.get("status", {}).get("conditions", ())
    return any(c["type"] == type and c["status"] == "True" for c in conditions)


def is_finished(job: Object) -> bool:
    """Return whether a Job has completed or failed."""
    return has_condition(job, "Complete") or has_condition(job, "Failed")


def timestamp(moment: datetime) -> str:
    """Format a time as Kubernetes does: RFC 3339 in UTC, in whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime:
    """Parse the output of :func:`timestamp`."""
    return datetime.fromisoformat(text)
