"""Start the process of a pod, find it after the ``tunegate`` command was restarted, and end all its
processes."""

import json
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tunegate_client.laptop.object_folder import write_atomically

logger = logging.getLogger(__name__)

UID_VARIABLE = "TUNEGATE_POD_UID"
"""Environment variable with the pod's uid. It identifies all processes of a pod, even if their parent has
ended."""
_CLOCK_TOLERANCE = 2.0
"""Seconds by which two readings of one process's start time may differ, because the system clock was changed.
"""
_SIGNAL_BASE = 128


@dataclass(frozen=True)
class ProcessRecord:
    """The identity of a pod's main process, as stored on disk."""

    pid: int
    create_time: float
    """When the process started, in seconds since 1970."""

    @classmethod
    def read(cls, path: Path) -> "ProcessRecord | None":
        """Read a record. Returns None if it is missing or invalid. Even then, the process may exist, see
        :func:`find_all`."""
        try:
            content = json.loads(path.read_text())
            return cls(content["pid"], content["createTime"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Write the record atomically. Raises OSError."""
        write_atomically(path, json.dumps({"pid": self.pid, "createTime": self.create_time}).encode())


class PodProcess:
    """The main process of a pod. It is no child of this process if an earlier process started it."""

    def __init__(
        self, uid: str, process: psutil.Process, child: "subprocess.Popen[bytes] | None" = None
    ) -> None:
        self._uid = uid
        self._process = process
        self._child = child
        self.record = ProcessRecord(process.pid, process.create_time())
        self.was_asked_to_stop = False

    def has_ended(self) -> bool:
        if self._child:
            return self._child.returncode is not None  # set by the thread that waits for it
        return not is_alive(self._process)

    def exit_code(self) -> int | None:
        """Return the exit code as Kubernetes reports it: 128 + the number of the signal, if a signal killed
        the process.

        Returns None if the process is running, or is not a child of this process.
        """
        if self._child is None or self._child.returncode is None:
            return None
        code = self._child.returncode
        return code if code >= 0 else _SIGNAL_BASE - code

    def ask_to_stop(self) -> None:
        """Send SIGTERM to the main process, as Kubernetes does. Later calls do nothing."""
        if not self.was_asked_to_stop:
            self.was_asked_to_stop = True
            _send(self._process, signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to all processes of the pod."""
        _send(self._process, signal.SIGKILL)
        self.kill_remaining()

    def kill_remaining(self) -> None:
        """Kill all processes of the pod except the main process, which has ended. As in a container, they
        must not outlive the main process."""
        for process, uid in _marked_processes():
            if uid == self._uid and process != self._process:
                _send(process, signal.SIGKILL)


def start(
    uid: str,
    command: list[str],
    *,
    folder: Path,
    environment: dict[str, str],
    log_file: Path,
    on_end: Callable[[], None],
) -> PodProcess:
    """Start a pod's main process. It gets its own session, so that it does not receive Ctrl-C from this
    terminal.

    ``on_end`` is called in another thread when the process ends. Raises OSError if the command does not
    exist.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as output:
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=environment | {UID_VARIABLE: uid},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    started = PodProcess(uid, psutil.Process(child.pid), child)

    def wait() -> None:
        child.wait()
        on_end()

    # The thread also reaps the child, even if the object that started it no longer exists.
    threading.Thread(target=wait, name=f"wait-{child.pid}", daemon=True).start()
    return started


def find(uid: str, record: ProcessRecord | None) -> PodProcess | None:
    """Return the main process of the pod with this uid if it is running, or None.

    With a ``record``, only the recorded process is considered."""
    if record:
        try:
            process = psutil.Process(record.pid)
            if is_alive(process) and _is_marked(process, uid, record):
                return PodProcess(uid, process)
        except psutil.Error:
            pass
        return None
    return find_all().get(uid)


def find_all() -> dict[str, PodProcess]:
    """Return the main processes of all pods on this machine, by pod uid.

    This also finds a process without a record: the process that started it may have been killed before it
    wrote the record."""
    leaders: dict[str, PodProcess] = {}
    for process, uid in _marked_processes():
        try:
            if os.getsid(process.pid) != process.pid or not is_alive(process):
                continue
            found = PodProcess(uid, process)
        except (psutil.Error, OSError):  # ended in the meantime
            continue
        # A child of the trainer may also lead a session. The trainer is the older process.
        if uid not in leaders or found.record.create_time < leaders[uid].record.create_time:
            leaders[uid] = found
    return leaders


def is_alive(process: psutil.Process) -> bool:
    """Return whether the process is running. A zombie is not: it has ended, and only its exit code is
    left."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _is_marked(process: psutil.Process, uid: str, record: ProcessRecord) -> bool:
    try:
        return process.environ().get(UID_VARIABLE) == uid
    except psutil.AccessDenied:
        return abs(process.create_time() - record.create_time) < _CLOCK_TOLERANCE


def _marked_processes() -> Iterator[tuple[psutil.Process, str]]:
    for process in psutil.process_iter():
        try:
            uid = process.environ().get(UID_VARIABLE)
        except (psutil.Error, OSError):  # another user's, or ended
            continue
        if uid:
            yield process, uid


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        pass
    except psutil.AccessDenied as error:
        logger.warning("cannot send %s to process %d: %s", number.name, process.pid, error)
