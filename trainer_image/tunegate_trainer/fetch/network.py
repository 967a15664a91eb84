"""Trouble on the way that may pass: tried again, with longer and longer pauses, and not for ever."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import httpx2

from tunegate_trainer.process.backoff import backoff
from tunegate_trainer.process.errors import UnreachableError

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 16.0
"""Seconds before each further try: doubling from the first to the longest."""
MAX_RETRIES = 5
"""Further tries in a row; a download that got on begins anew."""
TIMEOUT = httpx2.Timeout(60, connect=20)
"""Seconds without a byte after which a connection counts as broken."""
_TRANSIENT_STATUSES = (408, 425, 429, 500, 502, 503, 504)


class TransientError(Exception):
    """Something that another try may mend. Its text is a kind or a status, and holds no address."""


class Patience:
    """Counts tries in vain, and waits between them."""

    def __init__(self, field: str) -> None:
        self._field = field
        self.got_on()

    def got_on(self) -> None:
        """Something came: what went wrong before does not count."""
        self._failed = 0
        self._pauses = backoff(FIRST_PAUSE, LONGEST_PAUSE)

    def wait(self, error: TransientError) -> None:
        """Wait before the next try. Raises :class:`UnreachableError` after the last."""
        self._failed += 1
        if self._failed > MAX_RETRIES:
            raise UnreachableError(
                f"{self._field}: {error}, {self._failed} times in a row",
                "check the network from the pod (a proxy, a policy, DNS) and whether the server is up",
            ) from error
        pause = next(self._pauses)
        logger.warning("%s: %s; retrying in %d s", self._field, error, pause)
        time.sleep(pause)


def patiently(field: str, ask: Callable[[], Result]) -> Result:
    """The answer of ``ask``, which may take several tries."""
    patience = Patience(field)
    while True:
        try:
            return ask()
        except TransientError as error:
            patience.wait(error)


@contextmanager
def http_trouble() -> Iterator[None]:
    """Say which errors of HTTP itself may pass."""
    try:
        yield
    except httpx2.RequestError as error:
        raise TransientError(f"the connection failed ({type(error).__name__})") from error


def check_status(status: int) -> None:
    """Raise :class:`TransientError` for a status that may be another one soon."""
    if status in _TRANSIENT_STATUSES:
        raise TransientError(f"the server answered {status}")
