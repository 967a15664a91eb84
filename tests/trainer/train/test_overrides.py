"""transformers, TRL and PEFT still use what Tunegate overrides of them, in a stage that is interrupted and
resumed, and in a stage of DPO."""

import inspect
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

from support.trainer_root import TrainerRoot, dpo_plan
from tunegate_api.contract.process import Outcome
from tunegate_trainer.process.interruption import Interrupted, Interruption
from tunegate_trainer.roles import train as train_role
from tunegate_trainer.train.losses import LossFile
from tunegate_trainer.train.overrides import PreferenceCollator, StageTrainer

METHODS = (
    "_load_from_checkpoint",
    "_load_optimizer_and_scheduler",
    "_save",
    "_save_checkpoint",
    "_save_optimizer_and_scheduler",
    "_save_rng_state",
    "compute_loss",
    "log",
    "training_step",
)
"""The methods of transformers' Trainer and of TRL's SFTTrainer that StageTrainer overrides."""
SCALED = "loss_is_scaled_for_ga"

pytestmark = pytest.mark.model


def caller(frame: int) -> str:
    """Return the package whose code calls a function."""
    return str(sys._getframe(frame + 1).f_globals.get("__name__")).partition(".")[0]


def recorded(method: Callable[..., Any], called: set[str]) -> Callable[..., Any]:
    """Return the method, which adds its name to ``called`` if transformers or TRL calls it."""

    @wraps(method)
    def record(*args: Any, **kwargs: Any) -> Any:
        if caller(1) in ("transformers", "trl"):
            called.add(method.__name__)
        return method(*args, **kwargs)

    return record


def reading(called: set[str]) -> property:
    """Return the attribute as a property, which adds its name to ``called`` if transformers reads it."""

    def read(_: StageTrainer) -> bool:
        if caller(1) == "transformers":
            called.add(SCALED)
        return True

    return property(read)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> TrainerRoot:
    return TrainerRoot(tmp_path_factory.mktemp("overrides"), later=(dpo_plan(),)).write(tiny_model)


@pytest.fixture(scope="module")
def called(root: TrainerRoot) -> set[str]:
    """Interrupt and resume the stage of SFT, and train the stage of DPO. Return what transformers and TRL
    have used."""
    found: set[str] = set()
    interruption, append = Interruption(), LossFile.append

    def interrupt(self: LossFile, line: dict[str, float]) -> None:
        append(self, line)
        interruption.request()

    with pytest.MonkeyPatch.context() as patched:
        for name in METHODS:
            patched.setattr(StageTrainer, name, recorded(vars(StageTrainer)[name], found))
        patched.setattr(StageTrainer, SCALED, reading(found))
        collate = recorded(PreferenceCollator.torch_call, found)
        patched.setattr(PreferenceCollator, "torch_call", collate)
        with pytest.MonkeyPatch.context() as first:
            first.setattr(LossFile, "append", interrupt)
            with pytest.raises(Interrupted):
                train_role.run(root.context(interruption=interruption))
        assert train_role.run(root.context()) is Outcome.COMPLETED
        start = root.evaluated_steps()[-1]
        assert train_role.run(root.context(stage="dpo", start_step=start)) is Outcome.COMPLETED
    return found


@pytest.mark.parametrize("name", [*METHODS, SCALED, "torch_call"])
def test_library_uses_what_is_overridden(name: str, called: set[str]) -> None:
    assert name in called


def test_every_overridden_method_is_tested() -> None:
    overridden = {
        name
        for name, value in vars(StageTrainer).items()
        if inspect.isfunction(value) and hasattr(SFTTrainer, name)
    }
    assert overridden == {*METHODS, "__init__"}
    assert hasattr(DataCollatorForLanguageModeling, "torch_call")


def test_checkpoint_of_an_adapter_has_no_model_card(root: TrainerRoot, called: set[str]) -> None:
    """PEFT and TRL would write one."""
    del called
    assert list(root.workspace.rglob("adapter_model.safetensors"))
    assert not list(root.workspace.rglob("README.md"))


def test_transformers_saves_sharded_models_with_the_replaced_barrier() -> None:
    assert "self.barrier_after_gathered_checkpoint_save(" in inspect.getsource(PreTrainedModel)
