"""Measure how long the operator takes to decide about a new job after a watch has reported it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import urllib3
from kubernetes import client, watch

from support.waiting import eventually


class FirstDecisions:
    """An independent watch of the FineTuneJobs in a namespace. ``arrived`` has the time at which it reported
    each job, in seconds of the system clock."""

    def __init__(self) -> None:
        self.arrived: dict[str, float] = {}

    def seconds(self, job: dict[str, Any]) -> float:
        """Return the seconds from the event of a new job at this watch to the operator's first decision.

        The status has the time of the decision in whole seconds, so the result is up to one second too
        large."""
        name = job["metadata"]["name"]
        eventually(lambda: name in self.arrived, seconds=60, what=f"the event of {name}")
        decided = min(condition["lastTransitionTime"] for condition in job["status"]["conditions"])
        return datetime.fromisoformat(decided).timestamp() + 1 - self.arrived[name]


@contextmanager
def first_decisions(api: client.ApiClient, namespace: str) -> Iterator[FirstDecisions]:
    """Watch the FineTuneJobs in a namespace until the context ends. The namespace must have one already,
    whose event shows that the watch is open."""
    found, stream = FirstDecisions(), watch.Watch()

    def look() -> None:
        listing = client.CustomObjectsApi(api).list_namespaced_custom_object
        with suppress(urllib3.exceptions.HTTPError):  # the connection was closed
            for event in stream.stream(listing, "tunegate.dev", "v1alpha1", namespace, "finetunejobs"):
                found.arrived.setdefault(event["object"]["metadata"]["name"], time.time())

    threading.Thread(target=look, daemon=True).start()
    try:
        eventually(lambda: found.arrived, seconds=60, what="the watch is open")
        yield found
    finally:
        stream.stop()
