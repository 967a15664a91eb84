"""List and watch one kind of an API server, as client-go's reflectors do.

Kopf does this for the kinds that Tunegate defines. Their children have reflectors, because there may be
thousands of them and few of their fields are needed: docs/adr/0008-children-by-reflectors.md.
"""

import logging
import threading
import time
from collections.abc import Callable

from tunegate_api.backoff import backoff
from tunegate_operator.engine.cluster import ClusterError, Object
from tunegate_operator.engine.kubernetes import ExpiredError, KubernetesCluster

logger = logging.getLogger(__name__)

WATCH_SECONDS = 60
"""Seconds after which the server ends a watch, and it is opened again. This also detects dead connections."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds between retries: they double from the first to the longest."""


class Reflector:
    """Delivers every change of a kind to the cluster's listeners, from one namespace or, if None, from all.

    ``relist`` is called at the start, and whenever the server no longer has the resourceVersion of the watch.
    It must list the kind and find the changes that the watch missed.
    """

    def __init__(
        self, cluster: KubernetesCluster, kind: str, namespace: str | None, relist: Callable[[], None]
    ) -> None:
        self.is_synced = threading.Event()
        """Set when the first list is complete."""
        self.listed_at = 0.0
        """When the last complete list was requested, by the monotonic clock."""
        self._cluster = cluster
        self.kind = kind
        self._namespace = namespace
        self._relist = relist
        self._version = ""

    def run(self, stop: threading.Event) -> None:
        """Watch until ``stop`` is set, which is checked between events. Retry failures without limit."""
        failures = 0
        while not stop.is_set():
            try:
                if not self._version:
                    self._list()
                since = self._version
                for event in self._cluster.watch_from(self.kind, self._namespace, since, WATCH_SECONDS):
                    if stop.is_set():
                        return
                    self._take_in(event)
                    failures = 0
            except ExpiredError as error:
                logger.info("watching %ss: %s; listing them", self.kind, error)
                self._version = ""
                stop.wait(FIRST_PAUSE)
            except ClusterError as error:
                failures += 1
                pause = backoff(FIRST_PAUSE, LONGEST_PAUSE, failures)
                logger.warning("watching %ss: %s; retrying in %.0f s", self.kind, error, pause)
                stop.wait(pause)

    def _list(self) -> None:
        """List the kind, and watch from a version read before the list: repeated events are harmless."""
        began = time.monotonic()
        version = self._cluster.current_version(self.kind, self._namespace)
        self._relist()
        self._version, self.listed_at = version, began
        self.is_synced.set()

    def _take_in(self, event: Object) -> None:
        if event["type"] != "BOOKMARK":
            self._cluster.deliver(event["type"], event["object"])
        self._version = event["object"]["metadata"]["resourceVersion"]
