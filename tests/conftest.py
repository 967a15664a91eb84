"""Settings and fixtures for all tests."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from support.api_server import ApiServer, api_server

# A busy machine is slow, not wrong.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


SLOW_FIRST = (
    "trainer/test_train_together",
    "laptop/",
    "trainer/test_train",
    "finetunejob/test_faults",
    "trainer/",
)
"""Files that take minutes: what begins last should be short, so that all processes end together."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        path = f"{item.path.parent.name}/{item.path.name}"
        return next((i for i, slow in enumerate(SLOW_FIRST) if path.startswith(slow)), len(SLOW_FIRST))

    items.sort(key=place)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A real API server that all tests of the session share."""
    with api_server(tmp_path_factory.mktemp("api-server")) as server:
        yield server


@pytest.fixture(scope="session")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real MLflow server that all tests of the session share."""
    from support.mlflow_server import mlflow_server  # its client takes seconds to import

    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as url:
        yield url
