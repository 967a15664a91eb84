"""An index of objects by key, in which the objects of each key have an order."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Hashable
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
_LAST = "\U0010ffff"
"""A uid that sorts after every other uid."""


class OrderedIndex(Generic[KeyT]):
    """Lists the uids of objects by key, sorted by a position, so that a search can skip those that it had
    read before. Not thread-safe."""

    def __init__(self) -> None:
        self._entries: dict[KeyT, list[tuple[str, str]]] = {}

    def add(self, key: KeyT, position: str, uid: str) -> None:
        insort(self._entries.setdefault(key, []), (position, uid))

    def discard(self, key: KeyT, position: str, uid: str) -> None:
        entries = self._entries.get(key, [])
        at = bisect_left(entries, (position, uid))
        if entries[at : at + 1] != [(position, uid)]:
            return
        del entries[at]
        if not entries:
            del self._entries[key]

    def after(self, key: KeyT, position: str = "") -> list[tuple[str, str]]:
        """Return the position and uid of each object of this key whose position is higher, in order. Without
        a position, return all."""
        entries = self._entries.get(key, [])
        return entries[bisect_right(entries, (position, _LAST)) if position else 0 :]
