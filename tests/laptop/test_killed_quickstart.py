"""The quickstart has the same result if it is killed with SIGKILL at critical moments and resumed."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from support.command import QUICKSTART, Command
from support.waiting import eventually

pytestmark = [pytest.mark.story, pytest.mark.timeout(3000)]
INTERVAL = 13
"""The most optimizer steps between two checkpoints."""


def kill(command: Command, *processes: int) -> None:
    """Kill processes, and check that at most the optimizer steps since the last checkpoint are lost."""
    for pid in processes:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(p.pid in processes for p in command.trainers()))
    assert max(command.stage.losses()) - max(command.stage.checkpoints()) <= INTERVAL


def trainer_after(command: Command, checkpoints: int) -> int:
    """Wait until this many checkpoints have been evaluated. Returns the process id of the trainer."""
    eventually(lambda: len(command.stage.evaluated()) >= checkpoints, seconds=600)
    return eventually(lambda: command.trainer, seconds=120).pid


def is_inside_a_write(command: Command) -> bool:
    """Return whether a checkpoint is being written: it has files but no DONE marker."""
    return any(path.is_file() for path in command.stage.path.glob("scratch-*/*/*"))


def test_killed_run_has_the_same_losses_as_an_uninterrupted_run(tmp_path: Path, quickstart: Command) -> None:
    command = Command(tmp_path)
    arguments = ("run", str(QUICKSTART))

    first = command.start(*arguments)
    trainer = trainer_after(command, checkpoints=1)
    kill(command, first.pid)
    first.communicate()
    second = command.start(*arguments)
    assert trainer_after(command, checkpoints=2) == trainer, "the command adopted its trainer"
    assert command.stage.writers() == 1

    kill(command, trainer)
    trainer = eventually(lambda: command.trainer, seconds=120).pid
    eventually(lambda: is_inside_a_write(command), seconds=600, pause=0.001)
    complete = command.stage.checkpoints()
    kill(command, trainer)
    assert command.stage.checkpoints() == complete, "an incomplete checkpoint does not count"

    trainer = trainer_after(command, checkpoints=3)
    kill(command, second.pid, trainer)
    second.communicate()
    third = command.start(*arguments)
    output = _end_of(third)
    assert third.returncode == 0, output
    assert command.stage.writers() == 4
    assert command.stage.losses() == pytest.approx(quickstart.stage.losses(), abs=1e-4)
    assert command.status("order-extractor")["final"]["verdict"] == "Passed"


def _end_of(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=1200)
    return output
