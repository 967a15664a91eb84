"""If a runs folder has several jobs, a command runs only the jobs in its manifests."""

import signal
from pathlib import Path

import pytest

from support.command import Command
from support.waiting import eventually


def write(quick: Command, name: str) -> None:
    quick.write(Path("/nowhere"), folder=name)
    quick.edit(lambda objects: objects["orders"]["metadata"].update(name=name), folder=name)


@pytest.fixture
def interrupted(quick: Command) -> Command:
    """A runs folder whose job ``first`` was interrupted during training."""
    write(quick, "first")
    quick.environment["STAND_IN"] = "trains"
    process = quick.start("run", "first")
    eventually(lambda: quick.is_training("first"), seconds=60)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert quick.pods() == []
    return quick


@pytest.mark.parametrize("command", ["run", pytest.param("discard", marks=pytest.mark.slow)])
def test_command_does_not_change_other_jobs(interrupted, command):
    pods = sorted((interrupted.runs / ".cluster" / "logs").glob("first-*"))
    before = (interrupted.runs / "first" / "status.yaml").read_text()
    write(interrupted, "second")
    interrupted.environment["STAND_IN"] = "stops"
    assert interrupted("run", "second").returncode == 3
    if command == "discard":
        assert interrupted("discard", "second", "--reason", "worse").returncode == 0
    assert interrupted.pods() == []
    assert sorted((interrupted.runs / ".cluster" / "logs").glob("first-*")) == pods
    assert (interrupted.runs / "first" / "status.yaml").read_text() == before


def test_interrupted_job_resumes_when_it_is_run_again(interrupted):
    interrupted.environment["STAND_IN"] = "passes"
    assert interrupted("run", "first").returncode == 0
    assert interrupted.status("first")["phase"] == "Succeeded"


def test_status_distinguishes_interrupted_from_running_jobs(interrupted):
    assert "first: interrupted" in interrupted("status").stdout
    assert "interrupted; resume with `tunegate run …`" in interrupted("status", "first").stdout
    write(interrupted, "second")
    process = interrupted.start("run", "second")
    eventually(lambda: interrupted.is_training("second"), seconds=60)
    shown = interrupted("status").stdout
    assert "first: interrupted" in shown
    assert "second: interrupted" not in shown
    assert "interrupted" not in interrupted("status", "second").stdout
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert "second: interrupted" in interrupted("status").stdout


def test_second_ctrl_c_exits_at_once_and_leaves_no_processes(quick):
    write(quick, "first")
    quick.environment["STAND_IN"] = "never saves"
    process = quick.start("run", "first")
    eventually(lambda: quick.is_training("first"), seconds=60)
    process.send_signal(signal.SIGINT)
    eventually(lambda: "asked to stop" in quick.logs())
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert quick.pods() == []
