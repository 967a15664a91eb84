"""Whole objects that were read from the cluster, as many as fit."""

from collections import OrderedDict

CONTENT_BYTES = 32 * 1024 * 1024
"""Bytes of JSON that the cache keeps of ConfigMaps. A job's request, plan and results take about 10 KB with a
golden set of 100 cases."""


class Contents:
    """The JSON text of objects by uid, at most ``limit`` bytes in all: the least recently read are dropped.

    Not thread-safe.
    """

    def __init__(self, limit: int = CONTENT_BYTES) -> None:
        self._limit = limit
        self._texts: OrderedDict[str, bytes] = OrderedDict()
        self.size = 0
        """Bytes kept now."""

    def get(self, uid: str) -> bytes | None:
        if uid not in self._texts:
            return None
        self._texts.move_to_end(uid)
        return self._texts[uid]

    def put(self, uid: str, text: bytes) -> None:
        """Keep it, unless it alone is larger than the limit."""
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
