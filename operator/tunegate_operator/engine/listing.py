"""List the objects of one kind when its watch starts.

A watch reports only what changes after the version from which it starts. A list that is requested after this
version was read has everything else, so together they miss no change. They may both have the same change,
which is harmless: the cache ignores old versions.
"""

import logging
import threading
import time
from collections.abc import Callable

from tunegate_api.backoff import backoff
from tunegate_operator.engine.cluster import ClusterError

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""The shortest and the longest pause before a retry, in seconds. The pause doubles with each
consecutive failure."""
IDLE_SECONDS = 0.5
"""Seconds between two checks of an idle thread whether it should stop."""


class Listing:
    """The lists of one kind in one ``namespace``, or in all namespaces if this is None.

    ``relist`` must list the kind, and find the changes that the watch missed.
    """

    def __init__(self, kind: str, namespace: str | None, relist: Callable[[], None]) -> None:
        self.kind = kind
        self.namespace = namespace
        self.is_synced = threading.Event()
        """Set when the first list is complete."""
        self.listed_at = 0.0
        """When the last complete list was requested, in seconds of the monotonic clock."""
        self._relist = relist

    def update(self) -> None:
        """List the kind. Raises ClusterError."""
        began = time.monotonic()
        self._relist()
        self.listed_at = began
        self.is_synced.set()


class WatchStarts:
    """Updates ``listing`` in a thread of its own whenever Kopf starts to watch its kind."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._started = threading.Event()

    def note(self) -> None:
        """Request a list, because a watch starts from a version that was just read. Returns at once."""
        self._started.set()

    def run(self, stop: threading.Event) -> None:
        """List the kind after each start of its watch, until ``stop`` is set. Failures are retried
        forever."""
        failures = 0
        while not stop.is_set():
            if not self._started.wait(IDLE_SECONDS):
                continue
            self._started.clear()
            try:
                self._listing.update()
                failures = 0
            except ClusterError as error:
                self._started.set()
                failures += 1
                pause = backoff(FIRST_PAUSE, LONGEST_PAUSE, failures)
                logger.warning("listing %ss: %s; retrying in %.0f s", self._listing.kind, error, pause)
                stop.wait(pause)
