"""A cluster without Kubernetes: objects are YAML files in a folder, and pods are processes.

::

    <root>/lock                 locked by the one process that runs this folder
    <root>/objects/             every object, see :mod:`tunegate_client.laptop.object_folder`
    <root>/pods/<pod>/          the pod's file system, and process.json
    <root>/logs/<pod>.log       the pod's log
"""

import fcntl
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from tunegate_client.laptop.jobs import RETRY_SECONDS, new_pod, refuse_unsupported, step_job
from tunegate_client.laptop.kubelet import INTERRUPTED, Kubelet, WorksOn, works_on_all
from tunegate_client.laptop.object_folder import ObjectFolder
from tunegate_client.laptop.reports import Outboxes
from tunegate_client.laptop.store import ObjectStore
from tunegate_operator.children.pod_status import is_terminal
from tunegate_operator.engine.clock import Clock, SystemClock
from tunegate_operator.engine.cluster import ConflictError, Key, NotFoundError, Object, WatchEvent
from tunegate_operator.engine.objects import uid_of
from tunegate_operator.engine.owners import controlling_owner

_PROBE_SECONDS = 0.1
"""Seconds until a failed attempt to lock the folder is repeated. A process that calls is_in_use() holds the
lock for a shorter time."""


class RootInUseError(Exception):
    """Another process has locked this folder, because it runs the cluster in it."""


class LocalCluster:
    """Implements ``cluster.Cluster`` with a folder. Only the methods of ``cluster.Cluster`` are thread-safe.

    The caller calls :meth:`step` repeatedly, and :meth:`wait` in between. Pod processes continue after
    :meth:`close`, and if this process is killed: the next LocalCluster for the same folder adopts them.
    """

    def __init__(
        self,
        root: Path,
        volumes: Callable[[str], Path],
        clock: Clock | None = None,
        retry_seconds: float = RETRY_SECONDS,
        works_on: WorksOn = works_on_all,
    ) -> None:
        """Lock the folder and load its objects.

        ``volumes`` returns the folder of a PersistentVolumeClaim by the claim's name, or raises KeyError.
        ``retry_seconds`` is the time before the first retry of a failed pod.

        Jobs and pods for which ``works_on`` returns False are left unchanged: they are not started or ended,
        and their processes are ignored. Raises RootInUseError, and ClusterError if an object's file cannot be
        read.
        """
        self.root = root.absolute()
        self._lock = _lock(self.root)
        try:
            self._clock = clock or SystemClock()
            self._retry_seconds = retry_seconds
            self._changed = threading.Event()
            self._store = ObjectStore(self._clock, ObjectFolder(objects_folder(self.root)), graceful=("Pod",))
            self._store.watch(lambda _: self._changed.set())
            self._outboxes = Outboxes(volumes)
            self._reads_all_outboxes = True
            self._works_on = works_on
            self._kubelet = Kubelet(
                self._store, self.root, volumes, self._clock, self._changed.set, works_on=works_on
            )
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unlock the folder. Pod processes continue."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # cluster.Cluster

    def list_objects(self, kind: str, namespace: str | None = None) -> list[Object]:
        return self._store.list_objects(kind, namespace)

    def get(self, key: Key) -> Object | None:
        return self._store.get(key)

    def watch(self, listener: Callable[[WatchEvent], None]) -> None:
        self._store.watch(listener)

    def create(self, obj: Object) -> Object:
        if obj.get("kind") == "Job":
            refuse_unsupported(obj)
        return self._store.create(obj)

    def replace(self, obj: Object) -> Object:
        return self._store.replace(obj)

    def delete(self, key: Key, uid: str) -> None:
        self._store.delete(key, uid)

    def patch_status(self, key: Key, status: Object, resource_version: str) -> Object:
        return self._store.patch_status(key, status, resource_version)

    def patch_finalizers(self, key: Key, finalizers: list[str], resource_version: str) -> Object:
        return self._store.patch_finalizers(key, finalizers, resource_version)

    def record_event(self, regarding: Object, type: str, reason: str, message: str, count: int = 1) -> None:
        self._store.record_event(regarding, type, reason, message, count)

    def list_events(self, namespace: str, uid: str) -> list[Object]:
        return self._store.list_events(namespace, uid)

    # The rest of the cluster

    def watch_reports(self, listener: Callable[[Object], None]) -> None:
        """Call ``listener`` with every report in the outboxes. The next :meth:`step` also reads the reports
        that are in the outboxes already."""
        self._outboxes.watch(listener)
        self._reads_all_outboxes = True

    def log_file(self, pod_name: str) -> Path:
        """Return the path of a pod's log."""
        return self._kubelet.log_file(pod_name)

    def step(self) -> None:
        """Update the pods and Jobs for which ``works_on`` returns True, and read their new reports. Do this
        once, without waiting.

        Raises ClusterError or OSError if a file cannot be written; the next call does what is left to do.
        """
        self._changed.clear()
        self._record_ends()
        self._kubelet.step()
        self._step_jobs()
        self._kubelet.step()

    def wait(self, seconds: float) -> None:
        """Wait until an object has changed or a process has ended, for at most ``seconds``."""
        self._changed.wait(seconds)

    def interrupt(self, limit: float | None = None) -> None:
        """Stop all pods with SIGTERM, as Ctrl-C does. Wait for their end, and record it as a disruption.

        Each pod gets its grace period, but at most ``limit`` seconds; then it is killed. Do not call
        :meth:`step` afterwards, because it would start the next pods.
        """
        self._record_ends()  # first record the pods that ended by themselves
        self._kubelet.interrupt(limit)
        self._record_ends(INTERRUPTED)

    def _record_ends(self, disruption: str | None = None) -> None:
        # Reports before ends: a listener that sees a pod end has its last report already.
        ended = self._kubelet.ended_pods()
        pods = [pod for pod in self._store.list_objects("Pod") if self._works_on(pod)]
        if not self._reads_all_outboxes:
            pods = [pod for pod in pods if not is_terminal(pod)]
        self._reads_all_outboxes = False
        self._outboxes.poll(pods)
        self._kubelet.record_ends(ended, disruption)

    def _step_jobs(self) -> None:
        pods: dict[str, list[Object]] = defaultdict(list)
        for pod in self._store.list_objects("Pod"):
            owner = controlling_owner(pod)
            if owner:
                pods[owner.uid].append(pod)
        for job in filter(self._works_on, self._store.list_objects("Job")):
            try:
                self._step_job(job, pods[uid_of(job)])
            except (ConflictError, NotFoundError):
                self._changed.set()  # changed by another thread: the next step sees it

    def _step_job(self, job: Object, pods: list[Object]) -> None:
        step = step_job(job, pods, self._clock.now(), self._retry_seconds)
        if step.status != job.get("status", {}):
            self._store.patch_status(Key.of(job), step.status, job["metadata"]["resourceVersion"])
        for pod in step.stops:
            self._store.delete(Key.of(pod), uid_of(pod))
        for index in step.starts:
            self._store.create(new_pod(job, index))


def objects_folder(root: Path) -> Path:
    """Return the folder with the objects of the cluster in ``root``."""
    return root / "objects"


def is_in_use(root: Path) -> bool:
    """Return whether a process has locked this folder. Changes nothing."""
    try:
        descriptor = os.open(root / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _lock(root: Path) -> int:
    """Lock the folder, and return the descriptor of the lock file. The operating system releases the lock
    when the process ends, even if it is killed. Raises RootInUseError."""
    root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(root / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _take(descriptor)
    except OSError as error:
        holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise RootInUseError(f"{root} is in use by process {holder}") from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _take(descriptor: int) -> None:
    """Take the lock. Retry once, because is_in_use() in another process may hold it for a moment. Raises
    OSError."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(_PROBE_SECONDS)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
