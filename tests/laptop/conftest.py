"""Fixtures of the laptop tests: a tiny model, the command in its own folder, and a run that passed."""

import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.command import QUICKSTART, Command


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from support.tiny_model import save_tiny_model  # imports PyTorch

    folder = tmp_path_factory.mktemp("model") / "tiny"
    folder.mkdir()
    save_tiny_model(folder)
    return folder


@pytest.fixture
def tunegate(tmp_path: Path, warm: dict[str, str]) -> Command:
    return Command(tmp_path, dict(warm))


@pytest.fixture
def cold(tmp_path: Path) -> Command:
    """The command as a user runs it: its pods import their libraries themselves."""
    return Command(tmp_path)


@pytest.fixture(scope="session")
def finished(shared: Path, tiny_model: Path, warm: dict[str, str]) -> Command:
    """The working folder of a run that passed, which all test processes share. Tests must not change this
    folder."""
    command = Command(shared / "finished", dict(warm))
    command.folder.mkdir(exist_ok=True)
    with (command.folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (command.folder / "passed").exists():
            result = command("run", command.write(tiny_model))
            assert result.returncode == 0, result.stdout
            (command.folder / "passed").touch()
    return command


@pytest.fixture
def after_run(tmp_path: Path, finished: Command, warm: dict[str, str]) -> Command:
    """The command in a copy of this folder."""
    shutil.copytree(finished.folder, tmp_path / "here", symlinks=True)
    return Command(tmp_path / "here", dict(warm))


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The working folder of the quickstart after an undisturbed run, which takes minutes. Tests must not
    change this folder."""
    command = Command(tmp_path_factory.mktemp("quickstart"))
    result = command("run", str(QUICKSTART), seconds=2400)
    assert result.returncode == 0, result.stdout
    return command


@pytest.fixture
def quick(tmp_path: Path, stand_in: dict[str, str]) -> Iterator[Command]:
    """The command with a fake trainer."""
    command = Command(tmp_path, dict(stand_in))
    yield command
    command.kill()
