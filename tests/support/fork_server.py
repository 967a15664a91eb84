"""A server that has imported the libraries of a program, and forks itself for each start of the program.

Importing PyTorch and TRL takes 5 of the 6 seconds that a role needs with a tiny model, and importing the
command takes most of the time of a short command. A fork is a separate process, so tests still run real roles
and commands. A test of how a program starts must start a new process instead.

``python fork_server.py PROGRAM SOCKET PID`` serves until the process PID ends. A client sends one line of
JSON (``module``, ``arguments``, ``folder``, ``environment``) with the descriptors of stdin, stdout and
stderr, then signals as one byte each. It receives the exit code in one line. If the client disconnects, the
fork is killed. A fork has the mounts of its client.
"""

import ctypes
import fcntl
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

PACKAGES = Path(__file__).with_name("forks")
"""A folder with the client and a package that makes trainer commands forks, if it is first on the path."""
ROLES = (
    *("data", "train", "gate", "publish", "cleanup", "forecast", "check", "sample", "lint", "error_rate"),
    "gate_run",
)
TRAINER, STAND_IN, COMMAND = "TRAINER_FORKS", "STAND_IN_FORKS", "COMMAND_FORKS"
"""The programs. The variables with these names have the paths of their servers' sockets."""
STAND_IN_PACKAGES = Path(__file__).with_name("stand_in")
"""A folder with a fake trainer, whose commands are forks too."""


def forks(program: str, folder: Path, owner: int) -> dict[str, str]:
    """Start the servers of a trainer, :data:`TRAINER` or :data:`STAND_IN`, and of the command. Return the
    environment in which ``python -m tunegate_trainer`` and :class:`~support.command.Command` use them.

    All test processes that give the same ``folder`` share the servers, which end with the process ``owner``.
    """
    paths = {name: folder / f"{name}.sock" for name in (program, COMMAND)}
    with (folder / "forks.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name, path in paths.items():
            if not path.exists():
                _start(name, path, owner)
    packages = [str(STAND_IN_PACKAGES)] if program == STAND_IN else []
    search = os.pathsep.join(filter(None, (*packages, str(PACKAGES), os.environ.get("PYTHONPATH", ""))))
    return {**{name: str(path) for name, path in paths.items()}, "PYTHONPATH": search}


def _start(program: str, path: Path, owner: int) -> None:
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
    }
    ready, theirs = os.pipe()
    os.posix_spawn(
        sys.executable,
        [sys.executable, __file__, program, str(path), str(owner)],
        environment,
        file_actions=[(os.POSIX_SPAWN_DUP2, theirs, 1)],
    )
    os.close(theirs)
    with os.fdopen(ready) as output:
        assert output.readline() == "ready\n"


@dataclass
class _Fork:
    pid: int
    client: socket.socket
    fd: int
    """A pidfd, which is readable once the process has ended."""


@dataclass
class _Server:
    listener: socket.socket
    owner: int
    """A pidfd of the process with which the server ends."""
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def run(self) -> None:
        self.selector.register(self.listener, selectors.EVENT_READ, self._accept)
        self.selector.register(self.owner, selectors.EVENT_READ, None)
        forks: dict[int, _Fork] = {}
        while True:
            for key, _ in self.selector.select():
                if key.data is None:
                    for fork in forks.values():
                        os.kill(fork.pid, signal.SIGKILL)
                    return
                key.data(forks)

    def _accept(self, forks: dict[int, _Fork]) -> None:
        """Accept a client and fork for it. A client with an invalid request is disconnected, and then
        ends."""
        client, _ = self.listener.accept()
        client.settimeout(60)
        descriptors: list[int] = []
        try:
            request, numbers = _receive(client, descriptors)
        except (OSError, ValueError):
            client.close()
        else:
            client.settimeout(None)
            self._fork(request, numbers, descriptors, client, forks)
        for descriptor in descriptors:
            os.close(descriptor)

    def _fork(
        self,
        request: dict[str, Any],
        numbers: bytes,
        descriptors: list[int],
        client: socket.socket,
        forks: dict[int, _Fork],
    ) -> None:
        pid = os.fork()
        if pid == 0:
            run_in_fork(request, descriptors, client)
        fork = forks[pid] = _Fork(pid, client, os.pidfd_open(pid))
        for number in numbers:
            os.kill(pid, number)
        self.selector.register(client, selectors.EVENT_READ, lambda forks: self._forward_signals(fork, forks))
        self.selector.register(fork.fd, selectors.EVENT_READ, lambda forks: self._end(forks.pop(fork.pid)))

    def _forward_signals(self, fork: _Fork, forks: dict[int, _Fork]) -> None:
        """Forward a signal of the client to its fork, or kill the fork if the client has disconnected."""
        if fork.pid not in forks:  # it has ended in the same round of events
            return
        try:
            numbers = fork.client.recv(16)
        except ConnectionError:
            numbers = b""
        for number in numbers or [signal.SIGKILL]:
            os.kill(fork.pid, number)
        if not numbers:
            self.selector.unregister(fork.client)

    def _end(self, fork: _Fork) -> None:
        _, status = os.waitpid(fork.pid, 0)
        self.selector.unregister(fork.fd)
        os.close(fork.fd)
        if fork.client in self.selector.get_map():
            self.selector.unregister(fork.client)
        with suppress(ConnectionError):
            fork.client.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        fork.client.close()


def _receive(client: socket.socket, descriptors: list[int]) -> tuple[dict[str, Any], bytes]:
    """Read a request with its descriptors, and signals that arrive with it.

    Raises OSError or ValueError if the request is incomplete.
    """
    text = b""
    while b"\n" not in text:
        more, found, _, _ = socket.recv_fds(client, 1 << 20, 3)
        descriptors += found
        if not more:
            raise ConnectionError("the client went away")
        text += more
    line, _, numbers = text.partition(b"\n")
    request: dict[str, Any] = json.loads(line)
    return request, numbers


def _enter_namespaces(client: socket.socket) -> None:
    """Enter the user and mount namespaces of the client. A process with several threads could not."""
    pid, _, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    libc = ctypes.CDLL(None, use_errno=True)
    for name in ("user", "mnt"):
        path = f"/proc/{pid}/ns/{name}"
        if os.stat(path).st_ino != os.stat(f"/proc/self/ns/{name}").st_ino:
            with open(path) as namespace:
                if libc.setns(namespace.fileno(), 0) != 0:
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)


def run_in_fork(request: dict[str, Any], descriptors: list[int], client: socket.socket) -> NoReturn:
    """Run the requested module in this fork as if Python had just started. Does not return."""
    code = 1
    try:
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        _enter_namespaces(client)
        os.closerange(3, 1024)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv = [request["module"], *request["arguments"]]
        if request["module"] == "code":
            exec(request["arguments"][0], {"__name__": "__main__"})  # noqa: S102 - a test's own
        else:
            sys.modules.pop(request["module"], None)  # runpy warns about a module that is imported already
            runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as Python itself does
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _prepare_reports_and_models() -> None:
    """Do what a role does once, when it draws the first chart, renders the report, or loads a tiny model."""
    for name in ("figure", "backends.backend_svg"):
        import_module(f"matplotlib.{name}")
    templates = import_module("tunegate_trainer.report").TEMPLATES
    for name in templates.list_templates(extensions=["j2"]):
        templates.get_template(name)
    import_module("transformers.models.llama.modeling_llama")
    import_module("transformers.conversion_mapping").get_checkpoint_conversion_mapping("llama")


def serve(program: str, path: str, owner: int) -> None:
    """Import what the program needs, and fork for each client until the process ``owner`` ends."""
    owner_fd = os.pidfd_open(owner)
    modules: Iterable[str]
    if program == TRAINER:
        import_module("tunegate_trainer.process.packages").hide("scipy", "sklearn", "wandb")  # as roles do
        roles = (f"roles.{role}" for role in ROLES)
        modules = [f"tunegate_trainer.{name}" for name in ("main", "distributed.ranks", *roles)]
        _prepare_reports_and_models()
    elif program == STAND_IN:
        sys.path.insert(0, str(STAND_IN_PACKAGES))
        modules = [
            f"tunegate_api.{name}"
            for name in ("contract.results", "contract.request", "verdict.golden", "v1alpha2")
        ]
    else:
        modules = import_module("tunegate_client.cli.main").COMMANDS.values()
    for name in modules:
        import_module(name)
    gc.collect()
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)  # noqa: T201 - the parent waits for this line
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        _Server(listener, owner_fd).run()
    os._exit(0)  # unloading the libraries takes a second, and some print warnings


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]))
