"""Fixtures of the clients' tests: places with jobs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.api_server import ApiServer
from support.places import Place, namespace_place, runs_place


@pytest.fixture
def runs(tmp_path: Path) -> Place:
    """A runs folder. No process has locked it."""
    return runs_place(tmp_path / "runs")


@pytest.fixture
def kubernetes(server: ApiServer) -> Iterator[Place]:
    """A namespace of the real API server."""
    with namespace_place(server) as place:
        yield place
