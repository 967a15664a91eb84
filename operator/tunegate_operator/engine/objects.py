"""Small questions about Kubernetes objects as plain dicts."""

import json
from datetime import UTC, datetime
from typing import Any

from pydantic_core import from_json, to_json

from tunegate_operator.engine.cluster import Object


def wire(obj: Object) -> Object:
    """A deep copy as JSON carries it: enums become text, tuples become lists.

    Raises TypeError or ValueError for what JSON cannot carry.
    """
    copied: Object = json.loads(json.dumps(obj, allow_nan=False))
    return copied


def read_json(text: bytes) -> Any:
    """What JSON says; ValueError if it is none.

    pydantic's parser takes two thirds of the time of Python's, which takes what is nested more deeply.
    """
    try:
        return from_json(text)
    except ValueError:
        return json.loads(text)


def write_json(obj: Any) -> bytes:
    """An object as JSON, for :func:`read_json`: in a seventh of Python's time for all but odd objects."""
    try:
        return to_json(obj)
    except ValueError:
        return json.dumps(obj).encode()


def uid_of(obj: Object) -> str:
    """The uid that the cluster gave it."""
    uid: str = obj["metadata"]["uid"]
    return uid


def resource_version(obj: Object) -> int:
    """Its version as a number; versions of one kind may be compared (KEP-5504). 0 if it has none."""
    return int(obj["metadata"].get("resourceVersion") or 0)


def is_being_deleted(obj: Object) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


def has_condition(obj: Object, type: str) -> bool:
    """Whether the condition is there and True."""
    conditions = obj.get("status", {}).get("conditions", ())
    return any(c["type"] == type and c["status"] == "True" for c in conditions)


def is_finished(job: Object) -> bool:
    """Whether a Job ended, well or not."""
    return has_condition(job, "Complete") or has_condition(job, "Failed")


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with whole seconds, as Kubernetes writes times."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime:
    """The moment that :func:`timestamp` wrote."""
    return datetime.fromisoformat(text)
