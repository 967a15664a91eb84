"""Keeping up with one kind of a real API server, as reflectors of client-go do: a list, then a watch.

Kopf does this for the kinds that we define. Of their children there may be thousands, and of each little is
needed: docs/adr/0008-children-by-reflectors.md.
"""

import logging
import threading
import time
from collections.abc import Callable

from tunegate_operator.engine.backoff import backoff
from tunegate_operator.engine.cluster import ClusterError, Object
from tunegate_operator.engine.kubernetes import ExpiredError, KubernetesCluster

logger = logging.getLogger(__name__)

WATCH_SECONDS = 60
"""After which the server ends a watch, and it is opened anew: a dead connection says nothing either."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds between tries: doubling from the first to the longest."""


class Reflector:
    """Delivers every change of a kind, in one namespace or (None) in all, to the cluster's listeners.

    ``relist`` is called, at the start and whenever the server no longer knows where the watch was, and must
    find what changed unseen.
    """

    def __init__(
        self, cluster: KubernetesCluster, kind: str, namespace: str | None, relist: Callable[[], None]
    ) -> None:
        self.is_synced = threading.Event()
        """Set once the first list was taken in."""
        self.listed_at = 0.0
        """When the last list that was taken in was begun, by the monotonic clock."""
        self._cluster = cluster
        self.kind = kind
        self._namespace = namespace
        self._relist = relist
        self._version = ""

    def run(self, stop: threading.Event) -> None:
        """Until ``stop`` is set, which is noticed between events. No failure ends it: it tries again."""
        failures = 0
        while not stop.is_set():
            try:
                if not self._version:
                    self._list()
                for event in self._cluster.follow(self.kind, self._namespace, self._version, WATCH_SECONDS):
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
        """Take the version from which to watch first: what comes twice does no harm."""
        began = time.monotonic()
        version = self._cluster.current_version(self.kind, self._namespace)
        self._relist()
        self._version, self.listed_at = version, began
        self.is_synced.set()

    def _take_in(self, event: Object) -> None:
        if event["type"] != "BOOKMARK":
            self._cluster.deliver(event["type"], event["object"])
        self._version = event["object"]["metadata"]["resourceVersion"]
