"""The interface that the commands and the web page use to read jobs and gates. Two implementations pass the
same conformance tests: a runs folder on this machine, and the namespace of a cluster."""

from collections.abc import Iterator
from typing import Literal, Protocol

from tunegate_operator.engine.cluster import Object

Kind = Literal["FineTuneJob", "EvalGate"]


class ClientError(Exception):
    """The request failed. The message is for users, and says what to do."""


class UnknownNameError(ClientError):
    """There is no object with this name. The message lists the names that exist."""


class Client(Protocol):
    """Reads jobs and gates. Every method may raise :class:`ClientError`."""

    @property
    def place(self) -> str:
        """Where the jobs are, for headings: the runs folder, or the context and namespace of a cluster."""
        ...

    def list_objects(self, kind: Kind) -> list[Object]:
        """Return all objects of a kind, sorted by name."""
        ...

    def get(self, kind: Kind, name: str) -> Object:
        """Return one object. Raises UnknownNameError."""
        ...

    def watch(self, kind: Kind, name: str) -> Iterator[Object]:
        """Yield the object now, and after each change of it, until it is deleted. Reconnects after an
        interruption. Raises UnknownNameError if the object does not exist at first."""
        ...

    def list_events(self, obj: Object) -> list[Object]:
        """Return the Kubernetes Events about an object, oldest first."""
        ...

    def read_report(self, job: Object) -> bytes:
        """Return the job's report, an HTML page. Raises ClientError if there is no report yet."""
        ...
