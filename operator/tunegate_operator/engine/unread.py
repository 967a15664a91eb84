"""Read objects of which a watch reported only the metadata.

One watch reports the objects of all namespaces in order. If it reported whole objects, the events of all
namespaces would wait until the large objects of one namespace were sent. A worker reads a changed object
instead, when the turn of its namespace comes.
"""

from collections.abc import Callable

from tunegate_operator.engine.cache import Cache
from tunegate_operator.engine.cluster import Key, Object, WatchEvent
from tunegate_operator.engine.objects import resource_version, uid_of


class UnreadChanges:
    """The objects of which a watch reported a later version than the cache has. Thread-safe.

    ``read`` returns the current state of an object, or None if it does not exist.
    """

    def __init__(self, cache: Cache, read: Callable[[Key], Object | None]) -> None:
        self._cache = cache
        self._read = read
        self._versions: dict[Key, int] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._versions

    def complete(self, event: WatchEvent) -> WatchEvent | None:
        """Return an event with the whole object. For an event with its metadata, return None unless this is
        the version in the cache. If the version in the cache is older, the object is now unread."""
        if event.type in ("ADDED", "MODIFIED"):
            return event
        held = self._cache.by_uid(uid_of(event.obj))
        version = resource_version(event.obj)
        if event.type == "DELETED":
            if version > self._versions.get(Key.of(event.obj), version):  # a later object may have its name
                self._versions.pop(Key.of(event.obj), None)
            return WatchEvent("DELETED", (held or {}) | event.obj)
        if held and resource_version(held) == version:
            return WatchEvent("MODIFIED", held)
        if not held or resource_version(held) < version:
            self._versions[Key.of(event.obj)] = version
        return None

    def read(self, key: Key) -> WatchEvent | None:
        """Read an unread object. Return None if it does not exist, or was deleted meanwhile.

        Makes no request if the cache has this version by now. Raises ClusterError; the object then stays
        unread."""
        version = self._versions.pop(key, None)
        if version is None:
            return None
        held = self._cache.get(key)
        if held and resource_version(held) >= version:
            return WatchEvent("MODIFIED", held)
        try:
            found = self._read(key)
        except BaseException:
            self._versions.setdefault(key, version)
            raise
        return WatchEvent("MODIFIED", found) if found else None
