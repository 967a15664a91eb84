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
    """An independent watch of the FineTuneJobs in a namespace. ``arrived`` and ``answered`` have the times at
    which it first reported each job, and each status, in seconds of the system clock."""

    def __init__(self) -> None:
        self.arrived: dict[str, float] = {}
        self.answered: dict[str, float] = {}

    def note(self, job: dict[str, Any]) -> None:
        """Note the times of an event of a job."""
        name = job["metadata"]["name"]
        self.arrived.setdefault(name, time.time())
        if job.get("status"):
            self.answered.setdefault(name, time.time())

    def seconds(self, job: dict[str, Any]) -> float:
        """Return the seconds from the event of a new job at this watch to the operator's first decision.

        The status has the time of the decision in whole seconds, so the result may be up to one second too
        large. It is at most the time until the watch reported the status."""
        name = job["metadata"]["name"]
        eventually(lambda: name in self.answered, seconds=60, what=f"the status of {name}")
        decided = min(condition["lastTransitionTime"] for condition in job["status"]["conditions"])
        latest = datetime.fromisoformat(decided).timestamp() + 1
        return min(latest, self.answered[name]) - self.arrived[name]


@contextmanager
def first_decisions(api: client.ApiClient, namespace: str) -> Iterator[FirstDecisions]:
    """Watch the FineTuneJobs in a namespace until the context ends. The namespace must have one already,
    whose event shows that the watch is open."""
    found, stream = FirstDecisions(), watch.Watch()

    def look() -> None:
        listing = client.CustomObjectsApi(api).list_namespaced_custom_object
        with suppress(urllib3.exceptions.HTTPError):  # the connection was closed
            for event in stream.stream(listing, "tunegate.dev", "v1alpha2", namespace, "finetunejobs"):
                found.note(event["object"])

    threading.Thread(target=look, daemon=True).start()
    try:
        eventually(lambda: found.arrived, seconds=60, what="the watch is open")
        yield found
    finally:
        stream.stop()
