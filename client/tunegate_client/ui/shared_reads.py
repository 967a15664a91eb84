"""Share the result of a read among all pages that need it at about the same time."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar, cast

from tunegate_operator.engine.clock import Clock
from tunegate_operator.engine.expiring_cache import ExpiringCache

_Read = TypeVar("_Read")


class SharedReads:
    """Keeps the results of at most ``limit`` reads, each for ``seconds`` after its end. Errors are kept, too.

    Reads of the same key wait for one read. Reads of different keys do not wait for each other. Thread-safe.
    """

    def __init__(self, limit: int, seconds: float, clock: Clock) -> None:
        self._lock = threading.Lock()
        self._ended: ExpiringCache[Future[object]] = ExpiringCache(limit, seconds, clock)
        self._running: dict[str, Future[object]] = {}

    def get(self, key: str, read: Callable[[], _Read]) -> _Read:
        """Return what ``read`` returned for this key a moment ago, or call it. Raises its errors."""
        with self._lock:
            found = self._running.get(key) or self._ended.get(key)
            if found is None:
                mine = self._running[key] = Future[object]()
        if found is not None:
            return cast("_Read", found.result())
        try:
            mine.set_result(read())
        except BaseException as error:  # noqa: BLE001 - the threads that wait raise it
            mine.set_exception(error)
        with self._lock:
            self._ended.put(key, mine)
            del self._running[key]
        return cast("_Read", mine.result())
