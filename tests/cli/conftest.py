"""Fixtures of the commands' tests: a command with the options of a place."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.api_server import ApiServer
from support.places import CommandAt, namespace_place, runs_place
from tunegate_client.cli.main import main
from tunegate_client.cli.plugin import plugin


@pytest.fixture
def on_laptop(tmp_path: Path) -> CommandAt:
    """`tunegate` with a runs folder. No process has locked it."""
    return CommandAt(main, runs_place(tmp_path / "runs"))


@pytest.fixture
def on_cluster(server: ApiServer) -> Iterator[CommandAt]:
    """`kubectl tunegate` with a namespace of the real API server."""
    with namespace_place(server) as place:
        yield CommandAt(plugin, place)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Print without line breaks, and write files into an empty folder."""
    monkeypatch.setenv("COLUMNS", "200")
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
