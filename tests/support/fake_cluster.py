"""A cluster in memory with fault injection. The test acts as its kubelet and Job controller."""

import copy
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from support.clock import FakeClock
from tunegate_client.laptop.jobs import index_of, missing_indexes, new_pod, step_job
from tunegate_client.laptop.store import ObjectStore
from tunegate_operator.children import pod_status
from tunegate_operator.engine.cluster import (
    ClusterError,
    ConflictError,
    ForbiddenError,
    InvalidObjectError,
    Key,
    Object,
    TerminatingError,
    UnavailableError,
    WatchEvent,
)
from tunegate_operator.engine.kubernetes import OWN_RESOURCES
from tunegate_operator.engine.objects import is_finished, resource_version, timestamp, uid_of


class Crash(BaseException):
    """Ends the operator's process at this point. It is a BaseException, so that no exception handler of the
    operator catches it."""


@dataclass(frozen=True)
class Write:
    """A request that changed something."""

    verb: str
    """create, replace, delete, status, finalizers or event."""
    kind: str
    name: str


class FakeCluster(ObjectStore):
    """An ObjectStore that records the operator's writes, and can make them fail.

    The test uses the methods below and ``as_user`` to act as kubelet, Job controller and user. Calls of these
    methods do not fail, and are not recorded.
    """

    def __init__(self, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        super().__init__(self.clock)
        self.writes: list[Write] = []
        self.events: list[tuple[str, str, str, str]] = []
        """The recorded Events: name of the object, type, reason, message."""
        self.event_lists: list[str] = []
        """The uids of objects whose Events were listed."""
        self.write_listener: Callable[[], None] | None = None
        """Called before and after each write of the operator."""
        self.as_user = _WithoutFaults(self)
        self._report_listeners: list[Callable[[Object], None]] = []
        self._crash_before: int | None = None
        self._crash_after: int | None = None
        self._is_unavailable = False
        self._conflicts = 0
        self._error_on: int | None = None
        self._refusals: dict[str, ClusterError] = {}
        self._unreadable: dict[str, ClusterError] = {}

    # Faults

    def fail_before(self, n: int) -> None:
        """Crash instead of the n-th write from now on, where 1 is the next write."""
        self._crash_before = len(self.writes) + n

    def fail_after(self, n: int) -> None:
        """Crash after the n-th write from now, before its answer arrives."""
        self._crash_after = len(self.writes) + n

    @contextmanager
    def unavailable(self) -> Iterator[None]:
        """Make every call fail until the context ends."""
        self._is_unavailable = True
        try:
            yield
        finally:
            self._is_unavailable = False

    def conflict(self, times: int = 1) -> None:
        """Make the next ``times`` status writes and replacements fail with a conflict."""
        self._conflicts = times

    def error_on(self, number: int) -> None:
        """Make the n-th write fail with an error of the API server."""
        self._error_on = number

    def refuse(self, kind: str, message: str | None) -> None:
        """Refuse objects of this kind as invalid; None accepts them again."""
        self._refuse(kind, None if message is None else InvalidObjectError(message))

    def forbid(self, kind: str, message: str | None) -> None:
        """Refuse objects of this kind as forbidden; None accepts them again. The kind "finalizers" stands for
        changes of finalizers."""
        self._refuse(kind, None if message is None else ForbiddenError(message))

    def fail_to_read(self, kind: str, error: ClusterError | None) -> None:
        """Make every read of one object of this kind fail with this error; None ends this."""
        if error is None:
            self._unreadable.pop(kind, None)
        else:
            self._unreadable[kind] = error

    def terminate(self) -> None:
        """Refuse new objects from now on, because the namespace is being deleted."""
        for kind in ("ConfigMap", "Job"):
            self._refuse(kind, TerminatingError("the namespace is being terminated"))

    def fail(self, kind: str, message: str | None) -> None:
        """Refuse objects of this kind as unavailable; None accepts them again."""
        self._refuse(kind, None if message is None else UnavailableError(message))

    def _refuse(self, kind: str, error: ClusterError | None) -> None:
        if error is None:
            self._refusals.pop(kind, None)
        else:
            self._refusals[kind] = error

    # cluster.Cluster, with faults

    def list_objects(self, kind: str, namespace: str | None = None) -> list[Object]:
        self._check()
        return super().list_objects(kind, namespace)

    def get(self, key: Key) -> Object | None:
        self._check()
        if key.kind in self._unreadable:
            raise self._unreadable[key.kind]
        return super().get(key)

    def create(self, obj: Object) -> Object:
        with self._write("create", Key.of(obj)):
            if obj["kind"] in self._refusals:
                raise self._refusals[obj["kind"]]
            return super().create(obj)

    def replace(self, obj: Object) -> Object:
        with self._write("replace", Key.of(obj)):
            self._check_conflict()
            if obj["kind"] in self._refusals:
                raise self._refusals[obj["kind"]]
            return super().replace(obj)

    def delete(self, key: Key, uid: str) -> None:
        with self._write("delete", key):
            super().delete(key, uid)

    def patch_status(self, key: Key, status: Object, resource_version: str) -> Object:
        with self._write("status", key):
            self._check_conflict()
            return super().patch_status(key, status, resource_version)

    def patch_finalizers(self, key: Key, finalizers: list[str], resource_version: str) -> Object:
        with self._write("finalizers", key):
            self._check_conflict()
            if "finalizers" in self._refusals:
                raise self._refusals["finalizers"]
            return super().patch_finalizers(key, finalizers, resource_version)

    def record_event(self, regarding: Object, type: str, reason: str, message: str, count: int = 1) -> None:
        with self._write("event", Key.of(regarding)):
            self.events.append((regarding["metadata"]["name"], type, reason, message))
            super().record_event(regarding, type, reason, message, count)

    def list_events(self, namespace: str, uid: str) -> list[Object]:
        self._check()
        self.event_lists.append(uid)
        return super().list_events(namespace, uid)

    def _check(self) -> None:
        if self._is_unavailable:
            raise ClusterError("the API server is unavailable")

    def _check_conflict(self) -> None:
        if self._conflicts:
            self._conflicts -= 1
            raise ConflictError("the object was modified")

    @contextmanager
    def _write(self, verb: str, key: Key) -> Iterator[None]:
        self._check()
        number = len(self.writes) + 1
        if self._error_on == number:
            self._error_on = None
            raise ClusterError("etcdserver: request timed out")
        if self._crash_before == number:
            self._die()
        if self.write_listener:
            self.write_listener()
        yield
        self.writes.append(Write(verb, key.kind, key.name))
        if self.write_listener:
            self.write_listener()
        if self._crash_after == number:
            self._die()

    def _die(self) -> None:
        """Crash, and drop the listeners, because a killed process has no watches."""
        self._crash_before = self._crash_after = None
        self._listeners.clear()
        self._report_listeners.clear()
        raise Crash

    def snapshot(self) -> "FakeCluster":
        """Return a cluster with the same objects at the same time, without listeners and faults."""
        same = FakeCluster(copy.copy(self.clock))
        with self._lock:  # stored objects are replaced, never changed
            same._objects, same._version = dict(self._objects), self._version
        same.writes, same.events = list(self.writes), list(self.events)
        same._graceful = self._graceful
        return same

    def newest_version(self) -> int:
        """Return the newest resourceVersion of all objects, Events included."""
        return self._version

    # Reports

    def watch(self, listener: Callable[[WatchEvent], None]) -> None:
        """Call ``listener`` with every change. Events of Tunegate's kinds have only the metadata, as those of
        an API server."""

        def hear(event: WatchEvent) -> None:
            obj = event.obj
            if obj["kind"] in OWN_RESOURCES:
                known = {field: obj[field] for field in ("apiVersion", "kind", "metadata")}
                event = WatchEvent("DELETED" if event.type == "DELETED" else "CHANGED", known)
            listener(event)

        super().watch(hear)

    def watch_reports(self, listener: Callable[[Object], None]) -> None:
        """Call ``listener`` with every report, as LocalCluster does."""
        self._report_listeners.append(listener)

    def report(self, job_uid: str, report: Object) -> None:
        """Deliver a report of a running pod of this job."""
        for listener in self._report_listeners:
            listener({"jobUid": job_uid, "time": timestamp(self.clock.now()), **report})

    # The kubelet and the Job controller

    def pods_of(self, job_name: str, namespace: str = "default") -> list[Object]:
        uid = uid_of(self._job(job_name, namespace))
        pods = self.as_user.list_objects("Pod")
        return [pod for pod in pods if pod["metadata"]["ownerReferences"][0]["uid"] == uid]

    def start_pod(self, job_name: str, namespace: str = "default") -> Object:
        """Start a pending pod of the Job, or create a pod that runs at once. Returns the pod."""
        waiting = [pod for pod in self.pods_of(job_name, namespace) if pod_status.phase(pod) == "Pending"]
        pod = waiting[0] if waiting else self.pending_pod(job_name, namespace)
        pod = self._set_status(pod, _with_image_id(pod_status.running(pod, self.clock.now())))
        self._step_job(job_name, namespace)
        return pod

    def pending_pod(self, job_name: str, namespace: str = "default", status: Object | None = None) -> Object:
        """Create a pod of the Job that stays Pending, by default without a reason in its status. Returns the
        pod."""
        job = self._job(job_name, namespace)
        missing = missing_indexes(job, self.pods_of(job_name, namespace))
        pod = self.as_user.create(new_pod(job, *missing[:1]))
        pod = self._set_status(pod, status or {"phase": "Pending"})
        self._step_job(job_name, namespace)
        return pod

    def finish_pod(
        self,
        job_name: str,
        exit_code: int = 0,
        message: str = "",
        *,
        namespace: str = "default",
        reason: str | None = None,
        disruption: str | None = None,
        index: int | None = None,
    ) -> Object:
        """End the Job's running pod, or the one with ``index``, and update the Job's status as the Job
        controller does. Returns the pod."""
        running = [pod for pod in self.pods_of(job_name, namespace) if pod_status.phase(pod) == "Running"]
        running = [pod for pod in running if index in (None, index_of(pod))]
        pod = running[0] if running else self.start_pod(job_name, namespace)
        status = pod_status.terminated(
            pod, exit_code, message, self.clock.now(), reason=reason, disruption=disruption
        )
        pod = self._set_status(pod, _with_image_id(status))
        self._step_job(job_name, namespace)
        return pod

    def foreign_pod(self, pod: Object, status: Object, *, counts: bool = False) -> None:
        """Create a pod that a user made with a child Job as its owner, with this status. With ``counts``, the
        Job controller counts the pod."""
        made = self._set_status(self.as_user.create(pod), status)
        if counts:
            metadata = made["metadata"]
            self._step_job(metadata["ownerReferences"][0]["name"], metadata["namespace"])

    def complete_job(self, job_name: str, message: str = "", namespace: str = "default") -> Object:
        """End the Job's pod with exit code 0. Returns the Job."""
        self.finish_pod(job_name, 0, message, namespace=namespace)
        return self._job(job_name, namespace)

    def fail_job(
        self,
        job_name: str,
        reason: str = "BackoffLimitExceeded",
        message: str = "",
        namespace: str = "default",
    ) -> Object:
        """Fail the Job with ``reason``, whatever the state of its pods. Returns the Job."""
        job = self._job(job_name, namespace)
        time = timestamp(self.clock.now())
        condition = {
            "type": "Failed",
            "status": "True",
            "reason": reason,
            "message": message or reason,
            "lastProbeTime": time,
            "lastTransitionTime": time,
        }
        status = {**job.get("status", {}), "active": 0, "conditions": [condition]}
        return self._set_status(job, status)

    def _job(self, name: str, namespace: str) -> Object:
        job = self.as_user.get(Key("Job", namespace, name))
        assert job is not None, f"no Job {name}"
        return job

    def _step_job(self, name: str, namespace: str) -> None:
        """Update the Job's status as the Job controller does, without starting the next pod."""
        job = self._job(name, namespace)
        if not is_finished(job):
            step = step_job(job, self.pods_of(name, namespace), self.clock.now())
            self._set_status(job, step.status)

    def set_pod_status(self, job_name: str, status: Object, namespace: str = "default") -> Object:
        """Set the status of the Job's newest pod, as the kubelet does. Returns the pod."""
        newest = max(self.pods_of(job_name, namespace), key=resource_version)
        return self._set_status(newest, status)

    def stop_pods_slowly(self) -> None:
        """Keep pods that are deleted from now on as running, until :meth:`finalize`."""
        self._graceful = ("Pod",)

    def delete_pod(self, pod: Object) -> None:
        """Set a pod's deletionTimestamp. The pod stays, because no kubelet stops it."""
        with self._lock:
            self._start_deletion(self._objects[Key.of(pod)])

    def _set_status(self, obj: Object, status: Object) -> Object:
        return self.as_user.patch_status(Key.of(obj), status, obj["metadata"]["resourceVersion"])


def image_id(image: str) -> str:
    """Return the imageID that a kubelet reports for an image that it pulled."""
    return f"{image.partition(':')[0]}@sha256:{hashlib.sha256(image.encode()).hexdigest()}"


def _with_image_id(status: Object) -> Object:
    for container in status["containerStatuses"]:
        container["imageID"] = image_id(container["image"])
    return status


class _WithoutFaults:
    """Access to the store for everybody except the operator: writes do not fail and are not recorded."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    def list_objects(self, kind: str, namespace: str | None = None) -> list[Object]:
        return ObjectStore.list_objects(self._cluster, kind, namespace)

    def get(self, key: Key) -> Object | None:
        return ObjectStore.get(self._cluster, key)

    def watch(self, listener: Callable[[WatchEvent], None]) -> None:
        """Call ``listener`` with every change. Its objects are whole."""
        ObjectStore.watch(self._cluster, listener)

    def create(self, obj: Object) -> Object:
        return ObjectStore.create(self._cluster, obj)

    def replace(self, obj: Object) -> Object:
        return ObjectStore.replace(self._cluster, obj)

    def delete(self, key: Key, uid: str) -> None:
        ObjectStore.delete(self._cluster, key, uid)

    def patch_status(self, key: Key, status: Object, resource_version: str) -> Object:
        return ObjectStore.patch_status(self._cluster, key, status, resource_version)

    def patch_finalizers(self, key: Key, finalizers: list[str], resource_version: str) -> Object:
        return ObjectStore.patch_finalizers(self._cluster, key, finalizers, resource_version)

    def record_event(self, regarding: Object, type: str, reason: str, message: str, count: int = 1) -> None:
        ObjectStore.record_event(self._cluster, regarding, type, reason, message, count)
