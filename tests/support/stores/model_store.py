"""A server with a model. The tests for each URI scheme use it in the same way."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol


class Connection(Protocol):
    """The connection to a server, see :class:`FaultyProxy`."""

    @property
    def served(self) -> int: ...

    def break_after(self, count: int, then: Callable[[], object] | None = None) -> None: ...

    def answer_next(self, status: str, headers: str) -> None: ...

    def go_down(self) -> None: ...

    def come_up(self) -> None: ...


class Content(Protocol):
    """The files of a server."""

    def damage(self, name: str) -> None:
        """Change a byte in the middle of a file, but not the checksum that the server reports."""
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
    """The content of a Secret that may read the model."""
    wrong_secret: dict[str, str]
    revision: str | None = None
    """``model.revision`` of the spec."""
    recorded: str | None = None
    """The revision that the plan must record."""
    pinned: dict[str, str] = field(default_factory=dict)
    """Changes of the spec that pin the source to a commit or a digest. Empty if the scheme supports
    neither."""

    def source(self, **changes: Any) -> dict[str, Any]:
        """Return ``spec.model`` for this server."""
        known = {"uri": self.uri, "revision": self.revision, "secretName": "store", **changes}
        return {key: value for key, value in known.items() if value is not None}
