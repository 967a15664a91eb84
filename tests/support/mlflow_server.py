"""A real MLflow server, and a proxy that can forward, hang, refuse connections, or require a token."""

import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from support.api_server import free_port
from support.waiting import eventually

if TYPE_CHECKING:
    from mlflow.entities import Run

UNAUTHORIZED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_HEAD = 65536


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Run a server with its database and artifacts in ``folder``. Yields its URL."""
    port = free_port()
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"),
                *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
                *("--artifacts-destination", str(folder / "artifacts")),
            ],
            env=os.environ
            | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def answers() -> bool:
        assert process.poll() is None, (folder / "server.log").read_text()
        with suppress(urllib.error.URLError):
            return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).status == 200)
        return False

    try:
        eventually(answers, seconds=240, what="MLflow answers", pause=0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


class ProxyMode(Enum):
    """What the proxy does with connections."""

    FORWARD = "forwards to the server"
    SILENT = "accepts, but never answers"
    CLOSED = "closes at once"


class TrackerProxy:
    """A proxy on ``host`` in front of a server."""

    def __init__(self, server: str, host: str = "127.0.0.1") -> None:
        server_host, _, port = server.removeprefix("http://").partition(":")
        self._server = (server_host, int(port))
        self._host = host
        self.mode = ProxyMode.FORWARD
        self.token: str | None = None
        """The bearer token that requests must have, or None."""
        self._listener = socket.create_server((host, 0))
        self._held: list[socket.socket] = []
        threading.Thread(target=self._listen, name="proxy", daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._listener.close()
        for one in self._held:
            one.close()

    def _listen(self) -> None:
        with suppress(OSError):  # ends when the listener is closed
            while True:
                caller, _ = self._listener.accept()
                self._held.append(caller)
                if self.mode is ProxyMode.CLOSED:
                    caller.close()
                elif self.mode is ProxyMode.FORWARD:
                    threading.Thread(target=self._forward, args=(caller,), daemon=True).start()

    def _forward(self, caller: socket.socket) -> None:
        with suppress(OSError):
            head = caller.recv(_HEAD)
            if self.token and f"Bearer {self.token}".encode() not in head:
                caller.sendall(UNAUTHORIZED)
                caller.close()
                return
            server = socket.create_connection(self._server)
            self._held.append(server)
            server.sendall(head)
            threading.Thread(target=_copy, args=(caller, server), daemon=True).start()
            _copy(server, caller)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while some := source.recv(_HEAD):
            target.sendall(some)
    for one in (source, target):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)  # close() alone does not end another thread's recv()
        one.close()


def runs_of(server: str, experiment: str) -> dict[str, "Run"]:
    """Return the runs of an experiment by name. Two runs with one name are an error."""
    from mlflow.tracking import MlflowClient  # takes a second to import

    client = MlflowClient(server)
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id]) if found else []
    by_name = {str(run.info.run_name): run for run in runs}
    assert len(by_name) == len(runs), "a second run of the same name"
    return by_name


def points(server: str, run: "Run", metric: str) -> list[tuple[int, float]]:
    """Return the step and the value of each logged point. A point that was logged twice is returned twice."""
    from mlflow.tracking import MlflowClient

    history = MlflowClient(server).get_metric_history(run.info.run_id, metric)
    return sorted((point.step, point.value) for point in history)
