"""Store objects as plain dicts, with an API server's rules about names, versions, status and ownership."""

import platform
import re
import threading
import uuid
from collections.abc import Callable, Collection
from datetime import timedelta

from tunegate_client.laptop.object_folder import ObjectFolder
from tunegate_operator.engine.clock import Clock
from tunegate_operator.engine.cluster import (
    AlreadyExistsError,
    ConflictError,
    InvalidObjectError,
    Key,
    NotFoundError,
    Object,
    WatchEvent,
)
from tunegate_operator.engine.events import new_event
from tunegate_operator.engine.objects import is_being_deleted, resource_version, timestamp, uid_of, wire
from tunegate_operator.engine.owners import owner_uids

KEPT_EVENTS = 200
DEFAULT_GRACE_SECONDS = 30
WITHOUT_STATUS = ("ConfigMap", "Secret", "Event")
"""Kinds that have neither a status nor a generation."""
SET_BY_SERVER = (
    "uid",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_LONGEST_NAME, _LONGEST_LABEL = 253, 63
_LARGEST_CONFIG_MAP = 1024 * 1024
_LARGEST_ANNOTATIONS = 256 * 1024

Listener = Callable[[WatchEvent], None]


class ObjectStore:
    """Implements ``cluster.Cluster`` in memory. Thread-safe. Objects are copied when stored and when
    returned.

    Listeners are called while the store's lock is held, so that each listener receives all changes in order.
    A listener must be fast. It may call the store, but must not wait for another thread that calls the store.

    With a ``folder``, every change is written to disk before it is visible. If an object of a ``graceful``
    kind is deleted, it gets a deletionTimestamp and stays until :meth:`finalize`, like a pod in Kubernetes.
    Any other object that is deleted stays until it has no finalizers.
    """

    def __init__(
        self, clock: Clock, folder: ObjectFolder | None = None, graceful: Collection[str] = ()
    ) -> None:
        self._clock = clock
        self._folder = folder
        self._graceful = graceful
        self._lock = threading.RLock()
        self._objects: dict[Key, Object] = {}
        self._listeners: list[Listener] = []
        self._version = 0
        for obj in folder.load() if folder else ():
            self._objects[Key.of(obj)] = obj
            self._version = max(self._version, resource_version(obj))
        self._collect_garbage()  # an earlier process may have deleted an owner, but not its children

    # cluster.Cluster

    def list_objects(self, kind: str, namespace: str | None = None) -> list[Object]:
        with self._lock:
            return [
                wire(obj)
                for key, obj in sorted(self._objects.items())
                if key.kind == kind and namespace in (None, key.namespace)
            ]

    def get(self, key: Key) -> Object | None:
        with self._lock:
            obj = self._objects.get(key)
            return wire(obj) if obj else None

    def watch(self, listener: Listener) -> None:
        """Call ``listener`` with every change, see ``cluster.Cluster``. It is not called for Events,
        because no decision reads them."""
        with self._lock:
            self._listeners.append(listener)

    def create(self, obj: Object) -> Object:
        new = _validated(obj)
        key = Key.of(new)
        with self._lock:
            if key in self._objects:
                raise AlreadyExistsError(f"{key.kind} {key.name} already exists")
            metadata = new["metadata"]
            metadata["namespace"] = key.namespace
            metadata["uid"] = str(uuid.uuid4())
            metadata["creationTimestamp"] = timestamp(self._clock.now())
            if key.kind not in WITHOUT_STATUS:
                metadata["generation"] = 1
                new.pop("status", None)
            stored = self._save(new, "ADDED")
            self._collect_garbage()  # its owner may be deleted already
            return wire(stored)

    def replace(self, obj: Object) -> Object:
        new = _validated(obj)
        key = Key.of(new)
        with self._lock:
            old = self._current(key, new["metadata"].get("resourceVersion"))
            metadata = new["metadata"]
            metadata["namespace"] = key.namespace
            if metadata.get("uid", uid_of(old)) != uid_of(old):
                raise ConflictError(f"{key.kind} {key.name} has been replaced by another object")
            for field in SET_BY_SERVER:
                if field in old["metadata"]:
                    metadata[field] = old["metadata"][field]
            if key.kind not in WITHOUT_STATUS:
                new.pop("status", None)
                if "status" in old:
                    new["status"] = old["status"]
                if _content(new) != _content(old):
                    metadata["generation"] = old["metadata"]["generation"] + 1
            if old.get("immutable") and _content(new) != _content(old):
                raise InvalidObjectError(f"{key.kind} {key.name} is immutable")
            return wire(self._save(new, "MODIFIED"))

    def delete(self, key: Key, uid: str) -> None:
        with self._lock:
            obj = self._objects.get(key)
            if obj is None or uid_of(obj) != uid:
                return
            if key.kind in self._graceful or obj["metadata"].get("finalizers"):
                self._start_deletion(obj)
            else:
                self._remove(key)
                self._collect_garbage()

    def patch_status(self, key: Key, status: Object, resource_version: str) -> Object:
        with self._lock:
            old = self._current(key, resource_version)
            if key.kind in WITHOUT_STATUS:
                raise NotFoundError(f"{key.kind} has no status")
            return wire(self._save({**old, "status": wire(status)}, "MODIFIED"))

    def patch_finalizers(self, key: Key, finalizers: list[str], resource_version: str) -> Object:
        with self._lock:
            old = self._current(key, resource_version)
            changed = wire(old | {"metadata": old["metadata"] | {"finalizers": finalizers}})
            if finalizers or not is_being_deleted(old):
                return wire(self._save(changed, "MODIFIED"))
            self._remove(key)
            self._collect_garbage()
            return changed

    def record_event(self, regarding: Object, type: str, reason: str, message: str, count: int = 1) -> None:
        """Record an Event, see ``cluster.Cluster``. The last 200 Events are kept."""
        now = timestamp(self._clock.now())
        event = new_event(regarding, type, reason, message, time=now, instance=platform.node(), count=count)
        with self._lock:
            before = self._objects.pop(Key.of(event), None)
            if before:
                again = {"count": before["count"] + count, "lastTimestamp": event["lastTimestamp"]}
                event = before | again
            else:
                event["metadata"]["uid"] = str(uuid.uuid4())
            self._save(event, None)
            events = [k for k in self._objects if k.kind == "Event"]
            for oldest in sorted(events, key=self._event_age)[:-KEPT_EVENTS]:
                self._remove(oldest)

    def list_events(self, namespace: str, uid: str) -> list[Object]:
        with self._lock:
            events = [o for key, o in self._objects.items() if key.kind == "Event"]
            return [wire(e) for e in events if Key.of(e).namespace == namespace and _is_about(e, uid)]

    # For the kubelet

    def finalize(self, key: Key, uid: str) -> None:
        """Remove an object at once, without a grace period. Do nothing if it does not exist."""
        with self._lock:
            obj = self._objects.get(key)
            if obj is not None and uid_of(obj) == uid:
                self._remove(key)
                self._collect_garbage()

    # Internal, called while the lock is held

    def _current(self, key: Key, version: str | None) -> Object:
        obj = self._objects.get(key)
        if obj is None:
            raise NotFoundError(f"{key.kind} {key.name} not found")
        if not version:
            raise InvalidObjectError(f"{key.kind} {key.name}: metadata.resourceVersion is missing")
        if obj["metadata"]["resourceVersion"] != version:
            raise ConflictError(f"{key.kind} {key.name} was modified since it was read")
        return obj

    def _save(self, obj: Object, type: str | None) -> Object:
        """Store a changed object with the next resourceVersion, on disk and in memory. Then call the
        listeners with an event of this ``type``; None means no event. Do nothing if the object is
        unchanged."""
        key = Key.of(obj)
        if obj == self._objects.get(key):
            return obj
        version = self._version + 1
        stored = obj | {"metadata": obj["metadata"] | {"resourceVersion": str(version)}}
        if self._folder:
            self._folder.save(stored)  # first: if it fails, nothing has changed
        self._version = version
        self._objects[key] = stored
        if type == "ADDED":
            self._notify(WatchEvent("ADDED", stored))
        elif type == "MODIFIED":
            self._notify(WatchEvent("MODIFIED", stored))
        return stored

    def _start_deletion(self, obj: Object) -> None:
        if is_being_deleted(obj):
            return
        default = DEFAULT_GRACE_SECONDS if obj["kind"] == "Pod" else 0
        grace = obj.get("spec", {}).get("terminationGracePeriodSeconds", default)
        # The timestamp has whole seconds. Round up, so that no pod gets less than its grace period.
        end = self._clock.now() + timedelta(seconds=grace, milliseconds=999)
        marks = {"deletionTimestamp": timestamp(end), "deletionGracePeriodSeconds": grace}
        self._save(obj | {"metadata": obj["metadata"] | marks}, "MODIFIED")

    def _remove(self, key: Key) -> None:
        if self._folder:
            self._folder.remove(key)
        removed = self._objects.pop(key)
        if key.kind != "Event":
            self._version += 1
            version = {"resourceVersion": str(self._version)}
            self._notify(WatchEvent("DELETED", removed | {"metadata": removed["metadata"] | version}))

    def _collect_garbage(self) -> None:
        """Delete all objects whose owners no longer exist. Repeat this for the objects that they owned."""
        while True:
            uids = {uid_of(obj) for obj in self._objects.values()}
            orphans = [
                obj
                for obj in self._objects.values()
                if owner_uids(obj) and not owner_uids(obj) & uids and not is_being_deleted(obj)
            ]
            if not orphans:
                return
            for obj in orphans:
                if obj["kind"] in self._graceful:
                    self._start_deletion(obj)
                else:
                    self._remove(Key.of(obj))

    def _event_age(self, key: Key) -> tuple[str, int]:
        event = self._objects[key]
        return (event["lastTimestamp"], resource_version(event))

    def _notify(self, event: WatchEvent) -> None:
        for listener in self._listeners:
            listener(WatchEvent(event.type, wire(event.obj)))


def _content(obj: Object) -> Object:
    """Return all fields except metadata and status. A change of these fields increases the generation."""
    return {field: value for field, value in obj.items() if field not in ("metadata", "status")}


def _validated(obj: Object) -> Object:
    """Return a copy with JSON types. Raises InvalidError if an API server would refuse the object."""
    try:
        copied = wire(obj)
    except (TypeError, ValueError) as error:
        raise InvalidObjectError(f"the object cannot be written as JSON: {error}") from error
    if not copied.get("apiVersion") or not copied.get("kind"):
        raise InvalidObjectError("the object must have the fields apiVersion and kind")
    metadata = copied.get("metadata") or {}
    name = metadata.get("name", "")
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise InvalidObjectError(f"metadata.name {name!r} is not a lower-case DNS name")
    namespace = metadata.get("namespace", "default")
    if not _NAMESPACE.fullmatch(namespace) or len(namespace) > _LONGEST_LABEL:
        raise InvalidObjectError(f"metadata.namespace {namespace!r} is not a lower-case DNS label")
    for label, value in (metadata.get("labels") or {}).items():
        if not isinstance(value, str) or not _LABEL_VALUE.fullmatch(value) or len(value) > _LONGEST_LABEL:
            raise InvalidObjectError(f"metadata.labels[{label!r}]: {value!r} is not a valid label value")
    annotations = metadata.get("annotations") or {}
    if sum(len(k.encode()) + len(v.encode()) for k, v in annotations.items()) > _LARGEST_ANNOTATIONS:
        raise InvalidObjectError("metadata.annotations are larger than 256 KiB")
    if copied["kind"] == "ConfigMap":
        size = sum(len(v.encode()) for v in (copied.get("data") or {}).values())
        if size > _LARGEST_CONFIG_MAP:
            raise InvalidObjectError(f"ConfigMap {name} is larger than 1 MiB: {size} bytes")
    return copied


def _is_about(event: Object, uid: str) -> bool:
    return bool(event["involvedObject"]["uid"] == uid)
