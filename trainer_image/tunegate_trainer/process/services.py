"""The objects that a process makes once, such as the client of a server that must be probed only once."""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Services:
    """Objects by their class and a name. This module need not import the classes."""

    def __init__(self) -> None:
        self._made: dict[tuple[type, str], object] = {}

    def once(self, kind: type[T], name: str, make: Callable[[], T]) -> T:
        """Return the object of this class and name. The first call makes it."""
        found = self._made.get((kind, name))
        if not isinstance(found, kind):
            found = self._made[kind, name] = make()
        return found
