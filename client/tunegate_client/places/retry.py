"""Retry requests to a cluster that is temporarily unavailable."""

import time
from collections.abc import Callable

from tunegate_api.backoff import backoff
from tunegate_client.places.client import ClusterUnreachableError

GIVE_UP_SECONDS = 300.0
"""How long requests may fail, without a success in between, before the failure is final."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15.0
"""The shortest and the longest pause between two attempts, in seconds."""


class Retry:
    """Waits between the attempts of requests that fail because the cluster is unavailable. ``notice`` is
    called with a sentence about each wait."""

    def __init__(
        self,
        notice: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._notice = notice
        self._now = now
        self._sleep = sleep
        self._failures = 0
        self._since = 0.0

    def succeeded(self) -> None:
        """Note that a request succeeded, so that the next failure is the first one again."""
        self._failures = 0

    def wait(self, error: ClusterUnreachableError) -> None:
        """Wait until the next attempt. Raise ``error`` if requests have failed for GIVE_UP_SECONDS."""
        if not self._failures:
            self._since = self._now()
        self._failures += 1
        pause = backoff(FIRST_PAUSE, LONGEST_PAUSE, self._failures)
        if self._now() + pause - self._since > GIVE_UP_SECONDS:
            raise error
        self._notice(f"{error}; retrying in {pause:.0f} s")
        self._sleep(pause)
