"""What the engine needs of a cluster, whichever one it is.

Objects are plain dicts of the shape that Kubernetes serves. Three implementations pass one conformance
suite: the API server, a folder on a laptop, and a fake that fails on command.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Object = dict[str, Any]


@dataclass(frozen=True, order=True, slots=True)
class Key:
    """Where an object is."""

    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, obj: Object) -> "Key":
        metadata = obj["metadata"]
        return cls(obj["kind"], metadata.get("namespace", "default"), metadata["name"])


@dataclass(frozen=True)
class WatchEvent:
    type: Literal["LISTED", "ADDED", "MODIFIED", "DELETED"]
    """LISTED: found by a list, which shows what exists, not what changed."""
    obj: Object


class ClusterError(Exception):
    """A request that the cluster did not carry out. The base class means: try again later."""


class AlreadyExistsError(ClusterError):
    """Another object has this name."""


class ConflictError(ClusterError):
    """The object changed since it was read."""


class NotFoundError(ClusterError):
    """There is no such object."""


class ForbiddenError(ClusterError):
    """The cluster does not allow it: a quota is used up, or a right is missing. Either may change."""


class TerminatingError(ForbiddenError):
    """The namespace is being deleted, and takes nothing new."""


class UnavailableError(ClusterError):
    """The cluster answered that it cannot carry it out now: a webhook does not answer, say."""


class InvalidError(ClusterError):
    """The cluster refuses the object itself: trying again is of no use."""


class Cluster(Protocol):
    """The requests that the engine makes. Every call may raise :class:`ClusterError`."""

    def list_objects(self, kind: str, namespace: str | None = None) -> Iterable[Object]:
        """All objects of a kind that concern us, in all watched namespaces or in one. ConfigMaps may come
        with their metadata only.

        What is iterated over may be read meanwhile, and so raise in the middle."""
        ...

    def get(self, key: Key) -> Object | None:
        """One object as it is now, or None."""
        ...

    def watch(self, listener: Callable[[WatchEvent], None]) -> None:
        """Call ``listener`` on every change from now on, from whichever thread sees it. ConfigMaps may come
        with their metadata only."""
        ...

    def create(self, obj: Object) -> Object:
        """Create; returns it with uid and resourceVersion.

        Raises AlreadyExistsError, ForbiddenError, InvalidError."""
        ...

    def replace(self, obj: Object) -> Object:
        """Replace all but the status, if ``metadata.resourceVersion`` is still current.

        Raises ConflictError, NotFoundError, InvalidError."""
        ...

    def delete(self, key: Key, uid: str) -> None:
        """Delete if it still has this uid, and in the background what it owns. Absent is fine."""
        ...

    def patch_status(self, key: Key, status: Object, resource_version: str) -> Object:
        """Replace the status if ``resource_version`` is current. Raises ConflictError, NotFoundError."""
        ...

    def record_event(self, regarding: Object, type: str, reason: str, message: str) -> None:
        """Record a Kubernetes Event about an object; ``type`` is Normal or Warning."""
        ...

    def list_events(self, namespace: str, uid: str) -> list[Object]:
        """The Events about the object with this uid, whoever recorded them, in no order."""
        ...
