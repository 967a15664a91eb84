"""The interface between the engine and a cluster.

Objects are plain dicts, as the Kubernetes API serves them in JSON. Three implementations pass the same
conformance tests: a client of an API server, a folder on a laptop, and a fake cluster with fault injection.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Object = dict[str, Any]


@dataclass(frozen=True, order=True, slots=True)
class Key:
    """The kind, namespace and name of an object. A Namespace is in itself: its namespace is its name."""

    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, obj: Object) -> "Key":
        metadata = obj["metadata"]
        return cls(obj["kind"], metadata.get("namespace", "default"), metadata["name"])


@dataclass(frozen=True)
class WatchEvent:
    type: Literal["ADDED", "MODIFIED", "CHANGED", "DELETED"]
    """With CHANGED, an object was added or modified, and ``obj`` has only its metadata: read the object to
    know the change."""
    obj: Object


class ClusterError(Exception):
    """The cluster did not carry out a request. If no subclass applies, retry the request later."""


class AlreadyExistsError(ClusterError):
    """Another object has this name."""


class ConflictError(ClusterError):
    """The object changed since it was read."""


class NotFoundError(ClusterError):
    """There is no such object."""


class ForbiddenError(ClusterError):
    """The cluster does not allow the request, for example because a quota is exceeded or a permission is
    missing. A retry may succeed, because quotas and permissions may change."""


class TerminatingError(ForbiddenError):
    """The namespace is being deleted, and accepts no new objects."""


class UnavailableError(ClusterError):
    """The cluster cannot carry out the request at present, for example because a webhook does not answer."""


class RequestRefusedError(ClusterError):
    """The cluster refuses such requests, whatever their content, until a person changes something."""


class UnauthorizedError(RequestRefusedError):
    """The cluster does not accept the login (HTTP 401), for example because it has expired."""


class UnknownKindError(RequestRefusedError):
    """The cluster does not know the kind, for example because its CustomResourceDefinition is not
    installed."""


class InvalidObjectError(ClusterError):
    """The cluster refuses the object itself. Retrying does not help."""


class RestoredFromBackupError(Exception):
    """The cluster's etcd was restored from a backup, because resource versions are lower than before.

    This is no ClusterError, because a retry does not help: what the process has cached and watches is from
    another history of the cluster. The process must start again with an empty cache."""


class Cluster(Protocol):
    """The requests that the engine makes. Every call may raise :class:`ClusterError`."""

    def list_objects(self, kind: str, namespace: str | None = None) -> Iterable[Object]:
        """List the objects of a kind, in ``namespace`` or else in all watched namespaces.

        Jobs and Pods are listed only if they have the operator's labels. ConfigMaps may come with their
        metadata only. The list may be read page by page, so iterating over it may raise ClusterError."""
        ...

    def get(self, key: Key) -> Object | None:
        """Return the current state of an object, or None."""
        ...

    def watch(self, listener: Callable[[WatchEvent], None]) -> None:
        """Call ``listener``, from any thread, with every change from now on. ConfigMaps may come with their
        metadata only, and objects of Tunegate's kinds as CHANGED events."""
        ...

    def create(self, obj: Object) -> Object:
        """Create an object. Returns it with its uid and resourceVersion.

        Raises AlreadyExistsError, ForbiddenError, InvalidError."""
        ...

    def replace(self, obj: Object) -> Object:
        """Replace all of an object except its status, if its ``metadata.resourceVersion`` is current.

        Raises ConflictError, NotFoundError, InvalidError."""
        ...

    def delete(self, key: Key, uid: str) -> None:
        """Delete an object if it has this uid; otherwise do nothing.

        In the background, the cluster then deletes the objects that the deleted object owns."""
        ...

    def patch_status(self, key: Key, status: Object, resource_version: str) -> Object:
        """Replace the status of an object, if ``resource_version`` is current. Returns the whole object.

        Raises ConflictError, NotFoundError."""
        ...

    def patch_finalizers(self, key: Key, finalizers: list[str], resource_version: str) -> Object:
        """Replace the finalizers of an object, if ``resource_version`` is current. Returns the whole object.

        An object that is deleted stays, with a deletionTimestamp, until it has no finalizers. Raises
        ConflictError, NotFoundError, ForbiddenError."""
        ...

    def record_event(self, regarding: Object, type: str, reason: str, message: str, count: int = 1) -> None:
        """Record ``count`` occurrences of a Kubernetes Event about an object. ``type`` is Normal or Warning.

        If the cluster has this Event already, ``count`` is added to its count."""
        ...

    def list_events(self, namespace: str, uid: str) -> list[Object]:
        """List the Events about the object with this uid, from all sources, in no particular order."""
        ...
