"""Fixtures: a tiny model for the whole session, and roots to train it in."""

import os

# Must be set before the hub's client is imported, as `main` does for the roles that train and judge.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# With tiny matrices a second thread would only wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A step of a tiny model is shorter than waking a thread: two threads make the tests three times slower.
os.environ["OMP_NUM_THREADS"] = "1"

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import support.lean_imports  # noqa: F401 - before the others
from support.smollm2 import prepare_smollm2
from support.tiny_model import save_tiny_model
from support.trainer_root import STAGE, TrainerRoot
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Outcome
from tunegate_trainer.artifacts.gate_result import GateRoleResult
from tunegate_trainer.graders.server import asking
from tunegate_trainer.main import main
from tunegate_trainer.process.interruption import Interrupted, Interruption
from tunegate_trainer.process.packages import show_all
from tunegate_trainer.roles import train as train_role
from tunegate_trainer.train.losses import LossFile

MakeRoot = Callable[..., TrainerRoot]
FirstStage = Callable[[TrainerRoot, int | None], Path]
AtStep = Callable[[int, Callable[[], object]], None]
Judge = Callable[..., GateRoleResult]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)  # if a test module has imported PyTorch before this file


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_disks() -> Iterator[None]:
    """Do not flush files to the disk: no test cuts the power, and a role flushes 30 times."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(autouse=True)
def _unhidden() -> Iterator[None]:
    """Show the packages that a role of the test has hidden from the whole process."""
    yield
    show_all()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random Llama and its tokenizer. Tests must not write to it."""
    folder = tmp_path_factory.mktemp("tiny-model")
    save_tiny_model(folder)
    return folder


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2 as the data role unpacks it. Tests must not write to it."""
    return prepare_smollm2(tmp_path_factory.mktemp("smollm2"))


@pytest.fixture(params=["tiny_model", pytest.param("smollm2", marks=pytest.mark.story)])
def base_model(request: pytest.FixtureRequest) -> Path:
    """The folder of the tiny model, and of SmolLM2 in the story tests."""
    folder: Path = request.getfixturevalue(request.param)
    return folder


@pytest.fixture
def exact(base_model: Path) -> bool:
    """Whether results are compared number by number. A real model has longer sums and larger rounding errors,
    so its tensors are compared by their norms."""
    return base_model.name.startswith("tiny-model")


@pytest.fixture
def make_root(tmp_path: Path, tiny_model: Path) -> MakeRoot:
    """Return a function that makes a root with request, plan, data and a model, by default the tiny one.

    Each call makes another root.
    """
    made = 0

    def make(*, model: Path = tiny_model, **changes: Any) -> TrainerRoot:
        nonlocal made
        made += 1
        return TrainerRoot(tmp_path / f"root-{made}", **changes).write(model)

    return make


@pytest.fixture
def make_distributed_root(make_root: MakeRoot) -> MakeRoot:
    """Return a function that makes the root of a job that trains on this number of nodes."""

    def make(nodes: int = 2, **changes: Any) -> TrainerRoot:
        spec = changes.pop("spec", {})
        resources = {"accelerator": "CPU", "nodes": nodes}
        return make_root(spec={"resources": resources, **spec}, **changes)

    return make


@pytest.fixture(scope="session")
def first_stage(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> FirstStage:
    """Return a function that trains the first stage of a root, or interrupts it in a step. It returns the
    workspace, which tests must not change. Roots with equal first stages have one workspace."""
    made: dict[str, Path] = {}

    def workspace(like: TrainerRoot, interrupted_in: int | None) -> Path:
        key = repr((replace(like, path=Path(), later=()), interrupted_in))
        if key not in made:
            root = replace(like, path=tmp_path_factory.mktemp("first-stage"), later=()).write(tiny_model)
            made[key] = root.workspace
            interruption = Interruption()
            context = root.context(interruption=interruption)
            if interrupted_in is None:
                assert train_role.run(context) is Outcome.COMPLETED
            else:
                with pytest.MonkeyPatch.context() as patched:
                    _call_at_step(patched, interrupted_in, interruption.request)
                    with pytest.raises(Interrupted):
                        train_role.run(context)
        return made[key]

    return workspace


@pytest.fixture
def make_trained_root(make_root: MakeRoot, first_stage: FirstStage) -> MakeRoot:
    """Return a function like ``make_root``, which makes a root whose first stage is trained. With
    ``interrupted_in``, the training was interrupted in this step."""

    def make(*, interrupted_in: int | None = None, **changes: Any) -> TrainerRoot:
        root = make_root(**changes)
        shutil.copytree(first_stage(root, interrupted_in), root.workspace, dirs_exist_ok=True)
        return root

    return make


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> AtStep:
    """Return a function that sets up an action, called once after the loss of a step is written."""
    return lambda step, do: _call_at_step(monkeypatch, step, do)


def _call_at_step(monkeypatch: pytest.MonkeyPatch, step: int, do: Callable[[], object]) -> None:
    append = LossFile.append

    def append_and_do(self: LossFile, line: dict[str, float]) -> None:
        append(self, line)
        if line["step"] == step:
            monkeypatch.setattr(LossFile, "append", append)
            do()

    monkeypatch.setattr(LossFile, "append", append_and_do)


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Judge:
    """Return a function that runs the gate role on a stage's checkpoint."""

    def run(root: TrainerRoot, step: int, stage: str = STAGE) -> GateRoleResult:
        monkeypatch.setenv(ROOT_VARIABLE, str(root.path))
        assert main(["gate", "--stage", stage, "--step", str(step)]) == ExitCode.OK
        return GateRoleResult.model_validate_json(
            (root.workspace / root.paths.gate / "result.json").read_bytes()
        )

    return run


@pytest.fixture
def asks_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask servers that do not answer again without a pause."""
    monkeypatch.setattr(asking, "FIRST_PAUSE", 0)
    monkeypatch.setattr(asking, "LONGEST_PAUSE", 0)
