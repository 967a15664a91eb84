"""Remember which objects were deleted, so that a late watch event does not bring one back."""

import sys
from collections import OrderedDict
from dataclasses import dataclass

from tunegate_operator.engine.owners import Owner

REMEMBERED_DELETIONS = 10_000
"""Number of deleted uids that are remembered."""
FINAL_VERSION = sys.maxsize
"""Version of the deletion of an object that cannot come back. It is higher than every resourceVersion, so
every state of the object counts as older."""


@dataclass(frozen=True, slots=True)
class _Deletion:
    owner: Owner | None
    version: int
    changed: int


_NONE = _Deletion(None, 0, 0)


class Deletions:
    """The owners and versions of the objects that were deleted last, by uid. Not thread-safe."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Deletion] = OrderedDict()

    def __contains__(self, uid: str) -> bool:
        return uid in self._known

    def owner(self, uid: str) -> Owner | None:
        """Return the owner of a deleted object; None if it is not known."""
        return self._known.get(uid, _NONE).owner

    def is_later(self, uid: str, version: int) -> bool:
        """Return whether the object was deleted after its state of this ``version``, which is stale then."""
        return version < self._known.get(uid, _NONE).version

    def changed(self, uid: str) -> int:
        """Return how many changes the cache had counted when it recorded this deletion; 0 if there is
        none."""
        return self._known.get(uid, _NONE).changed

    def add(self, uid: str, owner: Owner | None, version: int, changed: int) -> None:
        """Record a deletion. An owner and a higher version that are known already are kept."""
        before = self._known.get(uid, _NONE)
        self._known[uid] = _Deletion(owner or before.owner, max(version, before.version), changed)
        if len(self._known) > REMEMBERED_DELETIONS:
            self._known.popitem(last=False)

    def remove(self, uid: str) -> None:
        """Forget a deletion, because the object exists."""
        self._known.pop(uid, None)
