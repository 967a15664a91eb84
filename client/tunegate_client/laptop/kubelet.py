"""Run pods as a kubelet does, but each pod is a process instead of a container."""

import json
import logging
import shutil
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import psutil

from tunegate_client.laptop import pod_folder, pod_process
from tunegate_client.laptop.pod_folder import CannotStartError, FindObject, FindVolume, UnschedulableError
from tunegate_client.laptop.pod_process import PodProcess, ProcessRecord
from tunegate_client.laptop.store import DEFAULT_GRACE_SECONDS, ObjectStore
from tunegate_operator.children import pod_status
from tunegate_operator.engine.clock import Clock
from tunegate_operator.engine.cluster import ConflictError, Key, NotFoundError, Object
from tunegate_operator.engine.objects import is_being_deleted, moment, uid_of

logger = logging.getLogger(__name__)

LOST_EXIT_CODE = 137
"""Exit code that is recorded if the real one is unknown: this process did not start the pod's process, and
the termination message has no exit code. 137 is the exit code of a killed process."""
START_ERROR_EXIT_CODE = 128
INTERRUPTED = "Pod was terminated in response to imminent node shutdown."
RESTARTED = "The machine restarted while the pod ran."
_PYTHONS = ("python", "python3")
_POLL_SECONDS = 0.05

WorksOn = Callable[[Object], bool]
"""A function that returns whether this process works on the given Job or pod."""


def works_on_all(_: Object) -> bool:
    """Return True, so that this process works on all Jobs and pods."""
    return True


def log_file(root: Path, pod_name: str) -> Path:
    """Return the path of the log of a pod that runs below ``root``."""
    return root / "logs" / f"{pod_name}.log"


class Kubelet:
    """Runs the pods of an object store. Only one thread may use it."""

    def __init__(
        self,
        store: ObjectStore,
        root: Path,
        find_volume: FindVolume,
        clock: Clock,
        wake: Callable[[], None],
        *,
        works_on: WorksOn = works_on_all,
    ) -> None:
        """Adopt the processes of pods that are still running.

        When a process ends that this Kubelet started, ``wake`` is called in another thread. ``root`` has the
        folders ``pods`` and ``logs``; ``find_volume`` returns the folder of a claim."""
        self._store = store
        self._root = root
        self._find_volume = find_volume
        self._clock = clock
        self._wake = wake
        self._works_on = works_on
        self._processes: dict[str, PodProcess] = {}
        self._lost: dict[str, Object] = {}  # pods whose process ended while no kubelet ran
        self._adopt()

    def log_file(self, pod_name: str) -> Path:
        """Return the path of the pod's log, which stays after the pod is deleted."""
        return log_file(self._root, pod_name)

    def ended_pods(self) -> list[Object]:
        """Return the pods whose process has ended, but whose status does not show it yet."""
        pods = [pod for pod in self._pods() if not pod_status.is_terminal(pod)]
        return [pod for pod in pods if uid_of(pod) in self._lost or self._has_ended(pod)]

    def record_ends(self, ended: list[Object], disruption: str | None = None) -> None:
        """Write the final status of these pods.

        ``disruption`` is the message of a disruption if this process stopped the pods, otherwise None."""
        for pod in ended:
            uid = uid_of(pod)
            process = self._processes.pop(uid, None)
            self._lost.pop(uid, None)
            if process:
                process.kill_remaining()
            code = process.exit_code() if process else None
            if code is None:
                code = self._recorded_exit_code(pod)
            why = RESTARTED if process is None and self._has_restarted_since(pod) else disruption
            folder = self._folder(pod)
            pod_folder.remove_secrets(pod, folder)
            message = pod_folder.termination_message(
                pod, folder, self.log_file(pod["metadata"]["name"]), code
            )
            status = pod_status.terminated(pod, code, message, self._now(), disruption=why)
            self._write_status(pod, status)

    def step(self) -> None:
        """Start pending pods, and stop pods that are being deleted."""
        for pod in self._pods():
            if is_being_deleted(pod):
                self._stop(pod)
            elif pod_status.phase(pod) == "Pending":
                self._start(pod)

    def interrupt(self, limit: float | None = None) -> None:
        """Send SIGTERM to the processes of all pods, and wait until they end.

        A process is killed after its pod's grace period, or after ``limit`` seconds if this is shorter. Call
        :meth:`record_ends` with :meth:`ended_pods` afterwards.
        """
        began = self._clock.monotonic()
        pods = {uid_of(pod): pod for pod in self._pods()}
        running = {uid: process for uid, process in self._processes.items() if not process.has_ended()}
        for process in running.values():
            process.ask_to_stop()
        while running:
            waited = self._clock.monotonic() - began
            for uid, process in list(running.items()):
                if process.has_ended():
                    del running[uid]
                elif waited >= min(_grace(pods.get(uid)), limit if limit is not None else float("inf")):
                    process.kill()
            if running:
                time.sleep(_POLL_SECONDS)

    # Inside

    def _pods(self) -> list[Object]:
        return [pod for pod in self._store.list_objects("Pod") if self._works_on(pod)]

    def _adopt(self) -> None:
        """Adopt the pod processes that an earlier kubelet started, and remove the folders of deleted pods."""
        unfinished = [pod for pod in self._pods() if not pod_status.is_terminal(pod)]
        found = pod_process.find_all() if unfinished else {}
        for pod in unfinished:
            uid = uid_of(pod)
            record = ProcessRecord.read(self._record_file(pod))
            process = pod_process.find(uid, record) if record else found.get(uid)
            if process:
                self._processes[uid] = process
                if not record or pod_status.phase(pod) == "Pending":
                    self._record_start(pod)
                logger.info("pod %s continues as process %d", pod["metadata"]["name"], process.record.pid)
            elif record or pod_status.phase(pod) == "Running" or self._termination_message(pod):
                self._lost[uid] = pod
        names = {pod["metadata"]["name"] for pod in self._store.list_objects("Pod")}
        for folder in (self._root / "pods").glob("*"):
            if folder.name not in names:
                shutil.rmtree(folder, ignore_errors=True)

    def _start(self, pod: Object) -> None:
        uid = uid_of(pod)
        if uid in self._lost:
            return
        if uid in self._processes:  # its start could not be written to disk earlier
            self._record_start(pod)
            return
        folder, now = self._folder(pod), self._now()
        try:
            pod_folder.build(pod, folder, self._finder(pod), self._find_volume)
            environment = pod_folder.environment(pod, folder, self._finder(pod))
        except UnschedulableError as error:
            self._write_status(pod, pod_status.unschedulable(pod, str(error), now))
            return
        except CannotStartError as error:
            self._write_status(pod, pod_status.waiting(pod, error.reason, str(error), now))
            return
        except OSError as error:  # for example a full disk
            self._write_status(pod, pod_status.waiting(pod, "CreateContainerError", str(error), now))
            return
        try:
            self._processes[uid] = pod_process.start(
                uid,
                _command(pod),
                folder=folder,
                environment=environment,
                log_file=self.log_file(pod["metadata"]["name"]),
                on_end=self._wake,
            )
        except OSError as error:
            status = pod_status.terminated(pod, START_ERROR_EXIT_CODE, str(error), now, reason="StartError")
            self._write_status(pod, status)
            return
        # After a crash before this line, the process has no record. It is found by its environment then.
        self._record_start(pod)

    def _record_start(self, pod: Object) -> None:
        """Record the pod's process on disk, then set the pod's phase to Running."""
        self._processes[uid_of(pod)].record.write(self._record_file(pod))
        self._write_status(pod, pod_status.running(pod, self._now()))

    def _stop(self, pod: Object) -> None:
        process = self._processes.get(uid_of(pod))
        if process is None or process.has_ended():
            if uid_of(pod) in self._lost or process:
                return  # record_ends() writes its final status first
            self._store.finalize(Key.of(pod), uid_of(pod))
            shutil.rmtree(self._folder(pod), ignore_errors=True)
        elif self._now() >= moment(pod["metadata"]["deletionTimestamp"]):
            process.kill()
        else:
            process.ask_to_stop()

    def _has_ended(self, pod: Object) -> bool:
        process = self._processes.get(uid_of(pod))
        return process is not None and process.has_ended()

    def _recorded_exit_code(self, pod: Object) -> int:
        """Return the exit code that the trainer's termination message contains, or LOST_EXIT_CODE if there is
        none."""
        try:
            return int(json.loads(self._termination_message(pod))["exitCode"])
        except (ValueError, KeyError, TypeError):
            return LOST_EXIT_CODE

    def _termination_message(self, pod: Object) -> str:
        try:
            return pod_folder.termination_message(pod, self._folder(pod), Path("/dev/null"), 0)
        except CannotStartError:  # an invalid path, so the pod never ran
            return ""

    def _has_restarted_since(self, pod: Object) -> bool:
        record = ProcessRecord.read(self._record_file(pod))
        return record is not None and record.create_time < psutil.boot_time() - 1

    def _write_status(self, pod: Object, status: Object) -> None:
        """Write a pod's status, whatever the object's resourceVersion is, because only the kubelet writes
        it."""
        key = Key.of(pod)
        current = self._store.get(key)
        if current is None or uid_of(current) != uid_of(pod):
            return
        try:
            self._store.patch_status(key, status, current["metadata"]["resourceVersion"])
        except (ConflictError, NotFoundError):
            logger.debug("pod %s changed in the meantime; the next step handles it", key.name)

    def _finder(self, pod: Object) -> FindObject:
        """Return a function that finds ConfigMaps and Secrets in the pod's namespace."""
        namespace = pod["metadata"]["namespace"]
        return lambda kind, name: self._store.get(Key(kind, namespace, name))

    def _folder(self, pod: Object) -> Path:
        return self._root / "pods" / str(pod["metadata"]["name"])

    def _record_file(self, pod: Object) -> Path:
        return self._folder(pod) / "process.json"

    def _now(self) -> datetime:
        return self._clock.now()


def _command(pod: Object) -> list[str]:
    """Return the pod's command. If its program is Python, the interpreter of this process is used."""
    container = pod["spec"]["containers"][0]
    command = [*container.get("command", ()), *container.get("args", ())]
    return [sys.executable, *command[1:]] if command[0] in _PYTHONS else command


def _grace(pod: Object | None) -> float:
    spec = pod["spec"] if pod else {}
    return float(spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_SECONDS))
