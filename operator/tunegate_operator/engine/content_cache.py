"""A least-recently-used cache of whole objects, limited in bytes."""

from collections import OrderedDict

CONTENT_BYTES = 32 * 1024 * 1024
"""Bytes of JSON that the cache keeps of ConfigMap contents. The request, plan and results of a job with 100
golden cases are about 10 KB."""


class ContentCache:
    """The JSON text of objects by uid, at most ``limit`` bytes in total.

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
        """Store a text, unless it alone is larger than the limit."""
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
