"""Retry transient network errors, with exponential backoff and a limit."""

import logging
import os
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from ipaddress import ip_address
from typing import TypeVar

import httpx2

from tunegate_api.backoff import backoff_pauses
from tunegate_trainer.process.errors import UnreachableError, UserError
from tunegate_trainer.process.local_addresses import LocalAddressError, find_local_address

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 16.0
"""Seconds to wait before the first retry, and the maximum. The pause doubles with each retry."""
MAX_RETRIES = 5
"""Maximum number of retries in a row. If a download makes progress, the count restarts at 0."""
MAX_RETRY_AFTER = 300.0
"""The longest wait in seconds that a server can ask for: as long as the intervals in which the Hugging Face
Hub counts requests."""
TIMEOUT = httpx2.Timeout(60, connect=20)
"""A request fails if its connection takes longer than 20 seconds, or if no byte arrives for 60 seconds."""
_TRANSIENT_STATUSES = (408, 425, 429, 500, 502, 503, 504)


def tls(*, is_direct: bool = False) -> ssl.SSLContext:
    """Return the TLS settings for connections. With ``is_direct``, certificate authorities in the environment
    are ignored. To read the certificates of all authorities takes as long as a small request, so they are
    kept until they are replaced."""
    if is_direct:
        return _tls(trust_env=False)
    return _tls(_version("SSL_CERT_FILE"), _version("SSL_CERT_DIR"))


def _version(variable: str) -> tuple[str, int] | None:
    """Return the path in an environment variable, and when it was changed."""
    path = os.environ.get(variable)
    if not path:
        return None
    try:
        return path, os.stat(path).st_mtime_ns
    except OSError:  # reading it fails, or is ignored, in the same way
        return path, 0


@lru_cache(maxsize=4)
def _tls(*_versions: tuple[str, int] | None, trust_env: bool = True) -> ssl.SSLContext:
    return httpx2.create_ssl_context(trust_env=trust_env)


class TransientError(Exception):
    """An error that a retry may fix. Its text is an error class or a status, and never has a URL."""

    def __init__(self, text: str, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after
        """The number of seconds that the server asks to wait; None if it does not."""


class Retries:
    """Counts failed attempts in a row, and waits between them."""

    def __init__(self, field: str) -> None:
        self._field = field
        self.reset()

    def reset(self) -> None:
        """Forget earlier failures, because an attempt made progress."""
        self._failed = 0
        self._pauses = backoff_pauses(FIRST_PAUSE, LONGEST_PAUSE)

    def wait(self, error: TransientError) -> None:
        """Wait before the next retry, and at least as long as the server asks. Raises
        :class:`UnreachableError` after the last one, and :class:`UserError` if this pod may not connect to
        the server."""
        if refused := find_local_address(error):
            raise local_address_refused(self._field, refused) from error
        self._failed += 1
        if self._failed > MAX_RETRIES:
            raise UnreachableError(
                f"{self._field}: {self._failed} attempts failed in a row: {error}",
                "check the pod's network (proxy, NetworkPolicy, DNS) and whether the server is running",
            ) from error
        pause = max(next(self._pauses), error.retry_after or 0.0)
        logger.warning("%s: %s; retrying in %d s", self._field, error, pause)
        time.sleep(pause)


def with_retries(field: str, request: Callable[[], Result]) -> Result:
    """Return the result of ``request``, which is retried after each :class:`TransientError`."""
    retries = Retries(field)
    while True:
        try:
            return request()
        except TransientError as error:
            retries.wait(error)


@contextmanager
def transient_http_errors() -> Iterator[None]:
    """Turn connection errors of the HTTP client into :class:`TransientError`."""
    try:
        yield
    except httpx2.RequestError as error:
        raise TransientError(f"the connection failed ({type(error).__name__})") from error


def local_address_refused(field: str, refused: LocalAddressError) -> UserError:
    """Return the error for an address that pods may not connect to. ``field`` names the address."""
    return UserError(
        f"{field}: {refused}",
        "use the address of another server, or ask an administrator to allow this one with the Helm value "
        "allowedLocalAddresses",
    )


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine. Plain HTTP to it is safe."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_status(status: int, headers: Mapping[str, str]) -> None:
    """Raise :class:`TransientError` for a status that a retry may fix."""
    if status in _TRANSIENT_STATUSES:
        raise TransientError(
            f"the server answered with status {status}", retry_after(headers, MAX_RETRY_AFTER)
        )


def retry_after(headers: Mapping[str, str], longest: float) -> float | None:
    """Return how many seconds the server asks to wait in the header Retry-After, at most ``longest``. A date
    instead of a number is ignored. The names in ``headers`` are in lower case, or their case does not
    matter."""
    value = headers.get("retry-after", "").strip()
    return min(float(value), longest) if re.fullmatch(r"\d{1,9}(\.\d+)?", value, re.ASCII) else None
