"""One object of the cache, and the entries of the index that find it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.objects import read_json
from tunegate_operator.engine.owners import Owner

References = Callable[[Object], Iterable[Key]]
"""Returns the keys of the objects that an object references, see ``controller.Controller.references``."""
IndexFunction = Callable[[Object], Iterable[tuple[Key, str]]]
"""Returns the keys and positions of an object in the index, see ``controller.Controller.index``."""
IndexEntry = tuple[str, str] | Owner | tuple[str, Key]
"""What objects are found by: kind and namespace; the controlling owner; or kind, and the
key of an object that they reference."""


@dataclass(frozen=True, slots=True)
class CachedObject:
    """A cached object as JSON text, with the fields that the index uses."""

    uid: str
    key: Key
    version: int
    owner: Owner | None
    references: tuple[Key, ...]
    """Keys of the objects that this object references."""
    referenced_before: tuple[Key, ...]
    """Keys of the objects that it referenced before its last change."""
    indexed: tuple[tuple[Key, str], ...]
    """Keys of objects whose decisions read this object, each with the position of this object."""
    first_seen: int
    """Number of changes that the cache had counted when it added this object."""
    changed: int
    """Number of changes that the cache had counted when it stored this state."""
    text: bytes

    def read(self) -> Object:
        obj: Object = read_json(self.text)
        return obj

    def index_entries(self) -> Iterator[IndexEntry]:
        """Yield the entries of the index that contain the uid of this object."""
        yield self.key.kind, self.key.namespace
        if self.owner:
            yield self.owner
        for key in self.references:
            yield self.key.kind, key


def read_sorted(found: Iterable[CachedObject]) -> list[Object]:
    """Read objects, and sort them by creation time, oldest first. Objects created in the same second are
    sorted by name."""
    objects = (held.read() for held in found)
    return sorted(objects, key=lambda o: (o["metadata"].get("creationTimestamp", ""), o["metadata"]["name"]))
