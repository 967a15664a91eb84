"""A cluster in a folder: objects are YAML files, pods are processes.

::

    <root>/lock                 held by the one process that runs this folder
    <root>/objects/             every object, see :mod:`tunegate_operator.laptop.object_folder`
    <root>/pods/<pod>/          what a pod sees, and process.json
    <root>/logs/<pod>.log       what a pod printed
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

from tunegate_operator.children.pod_status import is_terminal
from tunegate_operator.engine.clock import Clock, SystemClock
from tunegate_operator.engine.cluster import ConflictError, Key, NotFoundError, Object, WatchEvent
from tunegate_operator.engine.objects import uid_of
from tunegate_operator.engine.owners import controlling_owner
from tunegate_operator.laptop.jobs import RETRY_SECONDS, new_pod, refuse_unsupported, step_job
from tunegate_operator.laptop.kubelet import INTERRUPTED, Kubelet, WorksOn, everything
from tunegate_operator.laptop.object_folder import ObjectFolder
from tunegate_operator.laptop.reports import Outboxes
from tunegate_operator.laptop.store import ObjectStore

_LONGEST_LOOK = 0.1
"""Seconds for which whoever asks is_in_use() may hold the lock."""


class RootInUseError(Exception):
    """Another process runs this folder."""


class LocalCluster:
    """Implements ``cluster.Cluster``; those calls are thread-safe. The others are for one thread.

    Whoever owns it calls :meth:`step` again and again, with :meth:`wait` in between. Its processes outlive
    it: after :meth:`close`, or after our own death, the next LocalCluster of this folder goes on with them.
    """

    def __init__(
        self,
        root: Path,
        volumes: Callable[[str], Path],
        clock: Clock | None = None,
        retry_seconds: float = RETRY_SECONDS,
        works_on: WorksOn = everything,
    ) -> None:
        """``volumes`` gives the folder of a claim, or raises KeyError.

        Jobs and pods that ``works_on`` denies stay as they are: they are neither started nor ended, and their
        processes, if there are any, are not looked at.
        Raises RootInUseError, and ClusterError when an object's file can't be read.
        """
        self.root = root.absolute()
        self._lock = _lock(self.root)
        try:
            self._clock = clock or SystemClock()
            self._retry_seconds = retry_seconds
            self._changed = threading.Event()
            self._store = ObjectStore(self._clock, ObjectFolder(self.root / "objects"), graceful=("Pod",))
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
        """Let another process run this folder. Pods go on."""
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

    def record_event(self, regarding: Object, type: str, reason: str, message: str) -> None:
        self._store.record_event(regarding, type, reason, message)

    def list_events(self, namespace: str, uid: str) -> list[Object]:
        return self._store.list_events(namespace, uid)

    # The rest of the cluster

    def watch_reports(self, listener: Callable[[Object], None]) -> None:
        """Call ``listener`` with every report that pods leave; the next step begins with all there are."""
        self._outboxes.watch(listener)
        self._reads_all_outboxes = True

    def log_file(self, pod_name: str) -> Path:
        """What a pod printed."""
        return self._kubelet.log_file(pod_name)

    def step(self) -> None:
        """One pass over pods, reports and Jobs, without waiting for anything.

        Raises ClusterError or OSError when the disk fails; the next step goes on from there.
        """
        self._changed.clear()
        self._conclude()
        self._kubelet.step()
        self._step_jobs()
        self._kubelet.step()

    def wait(self, seconds: float) -> None:
        """Wait until something happened that the next step should see, at most this long."""
        self._changed.wait(seconds)

    def interrupt(self, limit: float | None = None) -> None:
        """What Ctrl-C does: ask all pods to stop, wait for them, and count it as no fault of theirs.

        Each gets its grace period, but at most ``limit`` seconds. Don't call :meth:`step` after it: that
        would start the next pods.
        """
        self._conclude()  # what ended before we asked
        self._kubelet.interrupt(limit)
        self._conclude(INTERRUPTED)

    def _conclude(self, disruption: str | None = None) -> None:
        # In this order: whoever learns that a pod has ended has its last report already.
        ended = self._kubelet.ended_pods()
        pods = [pod for pod in self._store.list_objects("Pod") if self._works_on(pod)]
        if not self._reads_all_outboxes:
            pods = [pod for pod in pods if not is_terminal(pod)]
        self._reads_all_outboxes = False
        self._outboxes.poll(pods)
        self._kubelet.conclude(ended, disruption)

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


def is_in_use(root: Path) -> bool:
    """Whether a process runs this folder. Asked by those who do not; it changes nothing."""
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
    """An open file that holds the folder's lock; it goes with the process, however that ends."""
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
    """Take the lock, also from somebody who asks is_in_use() just now. Raises OSError."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(_LONGEST_LOOK)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
