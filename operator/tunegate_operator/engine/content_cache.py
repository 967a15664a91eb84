"""A least-recently-used cache of whole objects, with a limit in bytes."""

from collections import OrderedDict

CONTENT_BYTES = 32 * 1024 * 1024
"""Limit for the total bytes of cached ConfigMaps, as JSON. For one job with 100 golden cases, the request,
plan and results need about 10 KB."""


class ContentCache:
    """Caches the JSON text of objects by uid, at most ``limit`` bytes in total.

    The least recently read objects are dropped first. Not thread-safe.
    """

    def __init__(self, limit: int = CONTENT_BYTES) -> None:
        self._limit = limit
        self._texts: OrderedDict[str, bytes] = OrderedDict()
        self.size = 0
        """Total bytes of the texts."""

    def get(self, uid: str) -> bytes | None:
        if uid not in self._texts:
            return None
        self._texts.move_to_end(uid)
        return self._texts[uid]

    def put(self, uid: str, text: bytes) -> None:
        """Store the text of an object, unless this text alone is larger than the limit."""
        self.discard(uid)
        if len(text) > self._limit:
            return
        self._texts[uid] = text
        self.size += len(text)
        while self.size > self._limit:
            _, oldest = self._texts.popitem(last=False)
            self.size -= len(oldest)

    def discard(self, uid: str) -> None:
        self.size -= len(self._texts.pop(uid, b""))
