"""Build Kubernetes Events. The name contains a digest of the content, so repeated Events have one name."""

import hashlib

from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.objects import uid_of

COMPONENT = "tunegate"
MAX_NAME = 253
MAX_MESSAGE = 1024
MAX_INSTANCE = 128


def new_event(
    regarding: Object, type: str, reason: str, message: str, *, time: str, instance: str, count: int = 1
) -> Object:
    """Build the Event about ``regarding``.

    ``instance`` identifies the process that reports it, and ``count`` is the number of its occurrences.
    """
    key = Key.of(regarding)
    what = "\0".join((uid_of(regarding), type, reason, message))
    digest = hashlib.sha256(what.encode()).hexdigest()[:16]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{key.name[: MAX_NAME - len(digest) - 1]}.{digest}",
            "namespace": key.namespace,
        },
        "involvedObject": {
            "apiVersion": regarding["apiVersion"],
            "kind": key.kind,
            "namespace": key.namespace,
            "name": key.name,
            "uid": uid_of(regarding),
        },
        "type": type,
        "reason": reason,
        "message": message[:MAX_MESSAGE],
        "count": count,
        "firstTimestamp": time,
        "lastTimestamp": time,
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": instance[:MAX_INSTANCE],
    }


def event_time(event: Object) -> str:
    """Return the time at which an Event last occurred; empty if unknown. The client that created the Event
    decides which field has this time."""
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return next((time for time in times if time), "")


def event_count(event: Object) -> int:
    """Return how often an Event has occurred. The client that created the Event decides which field has this
    number."""
    return int((event.get("series") or event).get("count") or 1)
