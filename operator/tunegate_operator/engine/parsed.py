"""Remember what texts were parsed to, so that many decisions about one text parse it once."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

Result = TypeVar("Result")

PARSED_BYTES = 1024 * 1024
"""Limit for the total bytes of texts whose results are kept: the size of the largest ConfigMap. Parsed golden
cases need 15 times the memory of their text."""


class ParseCache(Generic[Result]):
    """Results of parsing texts, at most those of ``limit`` bytes of text. Results that were not used for the
    longest time are dropped first. Thread-safe.

    Do not change the returned results, because all callers share them.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._found: OrderedDict[Hashable, tuple[Future[Result], int]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, size: int, parse: Callable[[], Result]) -> Result:
        """Return the result for the text that ``key`` identifies and that has ``size`` bytes.

        If several threads ask for it at once, one of them parses, and the others wait. What ``parse`` raises
        is raised in all of them, and not remembered."""
        with self._lock:
            found = self._found.get(key)
            if found:
                self._found.move_to_end(key)
                future, is_new = found[0], False
            else:
                future, is_new = Future[Result](), True
                self._found[key] = future, size
                self._size += size
                while self._size > self._limit:
                    _, (_, dropped) = self._found.popitem(last=False)
                    self._size -= dropped
        if is_new:
            try:
                future.set_result(parse())
            except BaseException as error:  # noqa: BLE001 - raised again, here and in threads that wait
                future.set_exception(error)
                self._forget(key, future)
        return future.result()

    def _forget(self, key: Hashable, future: Future[Result]) -> None:
        with self._lock:
            if self._found.get(key, (None, 0))[0] is future:
                self._size -= self._found.pop(key)[1]
