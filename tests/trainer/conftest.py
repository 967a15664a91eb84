"""One tiny model for the whole session, and a root to train it in."""

import os

# Before anything imports the hub's client, as `main` does for the roles that train and judge.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# Tiny matrices: a second thread would only wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A tiny model's step is shorter than waking a second thread: with two, the tests take three times as long.
os.environ["OMP_NUM_THREADS"] = "1"

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from support.tiny_model import save_tiny_model
from support.trainer_root import TrainerRoot

MakeRoot = Callable[..., TrainerRoot]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)  # for when a test module imported PyTorch before this one


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random Llama and its tokenizer. Not to be written to."""
    folder = tmp_path_factory.mktemp("tiny-model")
    save_tiny_model(folder)
    return folder


@pytest.fixture
def make_root(tmp_path: Path, tiny_model: Path) -> MakeRoot:
    """Makes a root with request, plan, data and the tiny model; call it again for a second one."""
    made = 0

    def make(**changes: Any) -> TrainerRoot:
        nonlocal made
        made += 1
        return TrainerRoot(tmp_path / f"root-{made}", **changes).write(tiny_model)

    return make
