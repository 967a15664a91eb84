"""The command ``tunegate ui``."""

import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest
import yaml

from support.builders import make_job
from support.command import Command
from support.job_statuses import stopped
from support.places import runs_place
from support.site import Site
from tunegate_client.ui.local_server import SHUTDOWN_SECONDS


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    """The command in a folder with a stopped run."""
    place = runs_place(tmp_path / "runs")
    place.set_status(place.create(make_job("orders").obj()), **stopped())
    command = Command(tmp_path)
    yield command
    command.kill()


def port_of(process: subprocess.Popen[str]) -> int:
    """Return the port in the address that the command prints when it has started."""
    assert process.stdout
    found = re.search(r"open http://127\.0\.0\.1:(\d+)/ in a browser", process.stdout.readline())
    assert found
    return int(found[1])


def test_command_serves_the_runs_folder_until_it_is_interrupted(command: Command) -> None:
    process = command.start("ui", "--port", "0")
    assert "tunegate continue orders --reason" in Site(port_of(process)).get("/jobs/orders").text
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    assert (process.returncode, rest) == (0, "")


@contextmanager
def silent_cluster(folder: Path) -> Iterator[Path]:
    """Yield a kubeconfig of an API server that accepts connections, but never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        kubeconfig = folder / "kubeconfig"
        config = {
            "clusters": [{"name": "silent", "cluster": {"server": address}}],
            "users": [{"name": "me", "user": {}}],
            "contexts": [{"name": "silent", "context": {"cluster": "silent", "user": "me"}}],
            "current-context": "silent",
        }
        kubeconfig.write_text(yaml.safe_dump(config))
        yield kubeconfig


def test_interrupt_ends_the_command_while_the_cluster_does_not_answer(command: Command) -> None:
    with silent_cluster(command.folder) as kubeconfig:
        process = command.start("ui", "--port", "0", "--kubeconfig", str(kubeconfig))
        port = port_of(process)
        connections = [HTTPConnection("127.0.0.1", port) for _ in range(4)]
        for connection, page in zip(connections, ("/", "/", "/jobs/orders", "/gates/golden"), strict=True):
            connection.request("GET", page)
        assert Site(port).get("/static/ui.css").status == 200  # the requests have arrived
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
        assert (process.returncode, output) == (0, "")
        assert time.monotonic() - began < SHUTDOWN_SECONDS + 4
        for connection in connections:
            connection.close()


def test_taken_port_is_refused_with_a_hint(command: Command) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = command("ui", "--port", str(port))
    assert result.returncode == 1
    assert f"port {port} cannot be used" in result.stdout
    assert "--port" in result.stdout


def test_server_started_with_nohup_survives_the_end_of_the_terminal(command: Command) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # which the command inherits, as from nohup
    try:
        process = command.start("ui", "--port", "0")
    finally:
        signal.signal(signal.SIGHUP, before)
    port = port_of(process)
    process.send_signal(signal.SIGHUP)
    assert Site(port).get("/").status == 200
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0
