"""The interface between the engine and a cluster.

Objects are plain dicts in the form that Kubernetes serves. Three implementations pass the same conformance
tests: an API server, a folder on a laptop, and a fake with fault injection.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Object = dict[str, Any]


@dataclass(frozen=True, order=True, slots=True)
class Key:
    """The kind, namespace and name of an object."""

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
    """The cluster did not carry out a request. The base class means: retry later."""


class AlreadyExistsError(ClusterError):
    """Another object has this name."""


class ConflictError(ClusterError):
    """The object changed since it was read."""


class NotFoundError(ClusterError):
    """There is no such object."""


class ForbiddenError(ClusterError):
    """The cluster does not allow it, because a quota is used up or a permission is missing. Retry: either may
    change."""


class TerminatingError(ForbiddenError):
    """The namespace is being deleted, and accepts no new objects."""


class UnavailableError(ClusterError):
    """The cluster cannot carry out the request now, for example because a webhook does not answer."""


class InvalidError(ClusterError):
    """The cluster refuses the object itself. Retrying does not help."""


class Cluster(Protocol):
    """The requests that the engine makes. Every call may raise :class:`ClusterError`."""

    def list_objects(self, kind: str, namespace: str | None = None) -> Iterable[Object]:
        """List the objects of a kind that the operator manages or reads, in all watched namespaces or in one.
        ConfigMaps may come with their metadata only.

        The list may be read page by page, so iterating over it may raise ClusterError."""
        ...

    def get(self, key: Key) -> Object | None:
        """Return the current state of an object, or None."""
        ...

    def watch(self, listener: Callable[[WatchEvent], None]) -> None:
        """Call ``listener`` on every change from now on, from any thread. ConfigMaps may come with their
        metadata only."""
        ...

    def create(self, obj: Object) -> Object:
        """Create an object. Returns it with its uid and resourceVersion.

        Raises AlreadyExistsError, ForbiddenError, InvalidError."""
        ...

    def replace(self, obj: Object) -> Object:
        """Replace an object except its status, if its ``metadata.resourceVersion`` is still current.

        Raises ConflictError, NotFoundError, InvalidError."""
        ...

    def delete(self, key: Key, uid: str) -> None:
        """Delete an object if it still has this uid, and the objects that it owns in the background. Do
        nothing if there is no such object."""
        ...

    def patch_status(self, key: Key, status: Object, resource_version: str) -> Object:
        """Replace the status, if ``resource_version`` is current. Raises ConflictError, NotFoundError."""
        ...

    def record_event(self, regarding: Object, type: str, reason: str, message: str) -> None:
        """Record a Kubernetes Event about an object. ``type`` is Normal or Warning."""
        ...

    def list_events(self, namespace: str, uid: str) -> list[Object]:
        """List the Events about the object with this uid, from all sources, in no particular order."""
        ...
