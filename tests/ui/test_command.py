"""The command ``tunegate ui``."""

import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.builders import make_job
from support.command import Command
from support.job_statuses import stopped
from support.places import runs_place
from support.site import Site


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    """The command in a folder with a stopped run."""
    place = runs_place(tmp_path / "runs")
    place.set_status(place.create(make_job("orders").obj()), **stopped())
    command = Command(tmp_path)
    yield command
    command.kill()


def test_command_serves_the_runs_folder_until_it_is_interrupted(command: Command) -> None:
    process = command.start("ui", "--port", "0")
    assert process.stdout
    found = re.search(r"open http://127\.0\.0\.1:(\d+)/ in a browser", process.stdout.readline())
    assert found
    assert "tunegate continue orders --reason" in Site(int(found[1])).get("/jobs/orders").text
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    assert (process.returncode, rest) == (0, "")


def test_taken_port_is_refused_with_a_hint(command: Command) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = command("ui", "--port", str(port))
    assert result.returncode == 1
    assert f"port {port} cannot be used" in result.stdout
    assert "--port" in result.stdout
