"""Fixtures of the engine's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.laptop import Laptop


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    """A laptop whose processes end with the test."""
    laptop = Laptop(tmp_path)
    yield laptop
    laptop.cluster.interrupt(limit=0)
    laptop.cluster.close()
