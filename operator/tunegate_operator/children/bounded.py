"""Lists of status that must not grow without end."""

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def newest(items: Sequence[Item], most: int, key: Callable[[Item], Hashable]) -> list[Item]:
    """The ``most`` newest items, in their order, where the newest of each key outlives any other.

    What happened last to a thing says how it stands; without it, it would seem never to have happened.
    """
    last = {key(item): item for item in items}
    older = [item for item in items if last[key(item)] is not item]
    dropped = {id(item) for item in older[: max(0, len(items) - most)]}
    return [item for item in items if id(item) not in dropped][-most:]
