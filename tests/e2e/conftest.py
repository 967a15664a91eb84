from collections.abc import Iterator

import pytest

from support.node import Node


@pytest.fixture(scope="session")
def node() -> Node:
    return Node()


@pytest.fixture
def namespace(node: Node, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own, named like it. How its jobs stand is printed when the test ends."""
    name = request.node.originalname.removeprefix("test_").replace("_", "-")[:60].strip("-")
    node.kubectl("create", "namespace", name)
    yield name
    if node.kubectl("get", "ftj", "-n", name, "-o", "name", "--ignore-not-found"):
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(f"\n{node.story(name)}")  # noqa: T201 - for whoever reads the log
    node.kubectl("delete", "namespace", name, "--timeout=120s")
