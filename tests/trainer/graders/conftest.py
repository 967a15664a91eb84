"""Fixtures for tests of a judge: a stub of its server."""

from collections.abc import Iterator

import pytest

from support.judge_server import JudgeServerStub


@pytest.fixture
def judge() -> Iterator[JudgeServerStub]:
    with JudgeServerStub() as stub:
        yield stub
