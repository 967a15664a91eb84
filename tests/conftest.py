"""Settings and fixtures for all tests."""

import atexit
import gc
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from support.api_server import ApiServer, api_server
from support.fork_server import STAND_IN, TRAINER, forks
from support.laptop import Laptop

# A background job of a script is started with SIGINT ignored. Tests interrupt themselves and their child
# processes, which inherit this.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadlines: tests must not fail because a machine is busy.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


# Importing torch, TRL and all tests makes a million objects. None of them can be freed, and looking through
# them takes 0.4 s in each training, when accelerate collects garbage.
gc.disable()
if "PYTEST_XDIST_WORKER" in os.environ:
    atexit.register(os._exit, 0)  # unloading everything takes seconds
else:
    atexit.register(gc.unfreeze)  # a library reports at exit what nobody has freed


def pytest_collection_finish() -> None:
    gc.enable()
    gc.freeze()
    gc.unfreeze = lambda: None  # which the trainer calls when its process ends: this one goes on


TESTS = Path(__file__).parent
SLOW_FIRST = (
    "trainer/train/test_distributed",
    "laptop/",
    "reporting/",
    "trainer/train/",
    "finetunejob/test_faults",
    "sdk/",
    "test_ci_tests",
    "ui/",
    "trainer/",
)
"""Files that take long. They run first, so that all test processes end at about the same time."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import files in which all tests have a mark that ``-m`` excludes: they need a second."""
    expression = config.getoption("markexpr")
    if collection_path.suffix != ".py" or " or " in expression:
        return None
    marks = re.search(r"^pytestmark = (.*)", collection_path.read_text(), re.MULTILINE)
    excluded = set(re.findall(r"not (\w+)", expression))
    return True if marks and excluded & set(re.findall(r"pytest\.mark\.(\w+)", marks[1])) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(TESTS).as_posix()
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


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all test processes of the session share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    """A local cluster whose processes end with the test."""
    laptop = Laptop(tmp_path)
    yield laptop
    laptop.cluster.interrupt(limit=0)
    laptop.cluster.close()


@pytest.fixture(scope="session")
def warm(shared: Path) -> dict[str, str]:
    """Return variables with which pods and commands are forks of processes that have imported their
    libraries."""
    return _forks(TRAINER, shared)


@pytest.fixture(scope="session")
def stand_in(shared: Path) -> dict[str, str]:
    """Return variables with which pods run a fake trainer, which sends reports like the real trainer's, but
    trains nothing."""
    return _forks(STAND_IN, shared)


def _forks(program: str, folder: Path) -> dict[str, str]:
    owner = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    return forks(program, folder, owner)


@pytest.fixture
def warm_roles(warm: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the roles that the test starts as processes from that trainer process."""
    for name, value in warm.items():
        monkeypatch.setenv(name, value)
