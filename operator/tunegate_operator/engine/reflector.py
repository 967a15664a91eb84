"""List and watch one kind on an API server, as client-go's reflectors do.

Kopf watches the kinds that Tunegate defines. Reflectors watch their child objects (Jobs, Pods, ConfigMaps),
because there may be thousands of children and few of their fields are needed:
docs/adr/0008-children-by-reflectors.md.
"""

import logging
import threading

from tunegate_api.backoff import backoff
from tunegate_operator.engine.api_errors import ExpiredError
from tunegate_operator.engine.cluster import ClusterError, Object, RestoredFromBackupError
from tunegate_operator.engine.kubernetes import KubernetesCluster
from tunegate_operator.engine.listing import FIRST_PAUSE, LONGEST_PAUSE, Listing

logger = logging.getLogger(__name__)

WATCH_SECONDS = 60
"""Seconds after which the server ends a watch. It is then opened again, so dead connections are detected."""


class Reflector:
    """Delivers every change of one kind to the listeners of ``cluster``.

    It updates ``listing``, which names the kind, at the start and whenever the server no longer has the
    resourceVersion of the watch.
    """

    def __init__(self, cluster: KubernetesCluster, listing: Listing) -> None:
        self._cluster = cluster
        self._listing = listing
        self._version = ""

    def run(self, stop: threading.Event) -> None:
        """Watch until ``stop`` is set, which is checked between events. Failures are retried forever.

        Raises RestoredFromBackupError."""
        failures = 0
        while not stop.is_set():
            try:
                if self._version:
                    self._check_version()
                else:
                    self._list()
                since, listing = self._version, self._listing
                for event in self._cluster.watch_from(listing.kind, listing.namespace, since, WATCH_SECONDS):
                    if stop.is_set():
                        return
                    self._take_in(event)
                    failures = 0
            except ExpiredError as error:
                logger.info("watching %ss: %s; listing them", self._listing.kind, error)
                self._version = ""
                stop.wait(FIRST_PAUSE)
            except ClusterError as error:
                failures += 1
                pause = backoff(FIRST_PAUSE, LONGEST_PAUSE, failures)
                logger.warning("watching %ss: %s; retrying in %.0f s", self._listing.kind, error, pause)
                stop.wait(pause)

    def _list(self) -> None:
        """List the kind. The next watch starts from a version that was read before the list. So the watch
        misses no change, but may repeat changes that the list had already, which is harmless."""
        version = self._current_version()
        self._listing.update()
        self._version = version

    def _check_version(self) -> None:
        """Raise RestoredFromBackupError if the version of the watch is in the future. The server would accept
        the watch, and report no event until it reaches this version."""
        current = self._current_version()
        if int(current) < int(self._version):
            raise RestoredFromBackupError(
                f"the resource version of {self._listing.kind}s went back from {self._version} to {current}: "
                "etcd was restored from a backup"
            )

    def _current_version(self) -> str:
        return self._cluster.current_version(self._listing.kind, self._listing.namespace)

    def _take_in(self, event: Object) -> None:
        if event["type"] != "BOOKMARK":
            self._cluster.deliver(event["type"], event["object"])
        self._version = event["object"]["metadata"]["resourceVersion"]
