"""List and watch one kind on an API server, as client-go's reflectors do.

Kopf watches the kinds that Tunegate defines. Reflectors watch their child objects (Jobs, Pods, ConfigMaps),
because there may be thousands of children and few of their fields are needed:
docs/adr/0008-children-by-reflectors.md.
"""

import logging
import threading
import time
from collections.abc import Callable

from tunegate_api.backoff import backoff
from tunegate_operator.engine.api_errors import ExpiredError
from tunegate_operator.engine.cluster import ClusterError, Object
from tunegate_operator.engine.kubernetes import KubernetesCluster

logger = logging.getLogger(__name__)

WATCH_SECONDS = 60
"""Seconds after which the server ends a watch. It is then opened again, so dead connections are detected."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""The shortest and the longest pause before a retry, in seconds. The pause doubles with each
consecutive failure."""


class Reflector:
    """Delivers every change of one kind to the listeners of ``cluster``.

    It watches one ``namespace``, or all namespaces if this is None. ``relist`` is called at the start, and
    whenever the server no longer has the resourceVersion of the watch. It must list the kind, and find the
    changes that the watch missed.
    """

    def __init__(
        self, cluster: KubernetesCluster, kind: str, namespace: str | None, relist: Callable[[], None]
    ) -> None:
        self.is_synced = threading.Event()
        """Set when the first list is complete."""
        self.listed_at = 0.0
        """When the last complete list was requested, in seconds of the monotonic clock."""
        self._cluster = cluster
        self.kind = kind
        self._namespace = namespace
        self._relist = relist
        self._version = ""

    def run(self, stop: threading.Event) -> None:
        """Watch until ``stop`` is set, which is checked between events. Failures are retried forever."""
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
        """List the kind. The next watch starts from a version that was read before the list. So the watch
        misses no change, but may repeat changes that the list had already, which is harmless."""
        began = time.monotonic()
        version = self._cluster.current_version(self.kind, self._namespace)
        self._relist()
        self._version, self.listed_at = version, began
        self.is_synced.set()

    def _take_in(self, event: Object) -> None:
        if event["type"] != "BOOKMARK":
            self._cluster.deliver(event["type"], event["object"])
        self._version = event["object"]["metadata"]["resourceVersion"]
