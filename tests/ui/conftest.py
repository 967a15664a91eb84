"""Fixtures of the tests of ``tunegate ui``: a runs folder, and its pages."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.clock import FakeClock
from support.places import Place, runs_place
from support.site import Site, serve_site
from tunegate_client.places.caller import Caller
from tunegate_client.ui.pages import Pages
from tunegate_client.ui.reader import Reader


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return runs_place(tmp_path / "runs")


@pytest.fixture
def clock() -> FakeClock:
    """The time at which pages are rendered."""
    return FakeClock()


@pytest.fixture
def pages(place: Place, clock: FakeClock) -> Pages:
    """The pages of the runs folder. They are read anew only after the clock has advanced."""
    return Pages(Reader(place.client, clock), Caller(options=" --runs here"), is_cluster=False)


@pytest.fixture
def site(place: Place) -> Iterator[Site]:
    with serve_site(place.client) as site:
        yield site
