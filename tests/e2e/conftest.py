from collections.abc import Callable, Iterator

import pytest

from support.node import Node


@pytest.fixture(scope="session")
def node() -> Node:
    return Node()


@pytest.fixture
def show(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return a function that prints a text even if the test passes."""
    plugins = request.config.pluginmanager

    def write(text: str) -> None:
        with plugins.getplugin("capturemanager").global_and_fixture_disabled():
            plugins.getplugin("terminalreporter").write_line(f"\n{text}")

    return write


@pytest.fixture
def namespace(node: Node, request: pytest.FixtureRequest, show: Callable[[str], None]) -> Iterator[str]:
    """A namespace with the name of this test. The state of the namespace's jobs is printed when the test
    ends."""
    name = request.node.originalname.removeprefix("test_").replace("_", "-")[:60].strip("-")
    node.kubectl("create", "namespace", name)
    node.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    show(node.story(name))
    node.kubectl("delete", "namespace", name, "--timeout=120s")
