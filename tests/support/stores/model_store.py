"""What tests of every scheme need to know of the server that they fetch from."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol


class Connection(Protocol):
    """The way to a server, see :class:`FaultyProxy`."""

    @property
    def served(self) -> int: ...

    def break_after(self, count: int, then: Callable[[], object] | None = None) -> None: ...

    def go_down(self) -> None: ...

    def come_up(self) -> None: ...


class Content(Protocol):
    """What a server holds."""

    def damage(self, name: str) -> None:
        """Change a byte in the middle of a file, and nothing that the server says of it."""
        ...

    def mend(self, name: str) -> None:
        """Undo :meth:`damage`."""
        ...


@dataclass
class ModelStore:
    """A server with the tiny model, behind a proxy that can break connections."""

    uri: str
    proxy: Connection
    content: Content
    secret: dict[str, str]
    """The keys of a Secret that may read the model."""
    wrong_secret: dict[str, str]
    revision: str | None = None
    """What the spec says beside the URI."""
    recorded: str | None = None
    """The revision that the plan must record."""
    pinned: dict[str, str] = field(default_factory=dict)
    """The source with a commit or a digest in it; empty where there is no such thing."""

    def source(self, **changes: Any) -> dict[str, Any]:
        """``spec.model`` for it."""
        known = {"uri": self.uri, "revision": self.revision, "secretName": "store", **changes}
        return {key: value for key, value in known.items() if value is not None}
