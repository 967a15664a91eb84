"""A stage without an adapter trains all weights: resumed, judged and published as whole models."""

import json
import os
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from support.trainer_root import STAGE, TrainerRoot, gate_spec, golden_cases
from tunegate_api.contract import ROOT_VARIABLE, ExitCode, Outcome
from tunegate_api.verdict import PASS, VerdictState
from tunegate_trainer.files import seal, verify
from tunegate_trainer.gate_result import GateResult
from tunegate_trainer.interruption import Interruption
from tunegate_trainer.main import main
from tunegate_trainer.train import recipe
from tunegate_trainer.train.losses import LossFile

ALL_WEIGHTS = {
    "adapter": "None",
    "lora_r": None,
    "lora_alpha": None,
    "lora_dropout": None,
    "target_modules": None,
    "learning_rate": 3e-3,
}
SPEC = {"stages": [{"name": STAGE, "method": "SFT"}]}
STEP = 20


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_model) -> TrainerRoot:
    """A root with a stage that learned its answer. Not to be written to."""
    gates = {"orders": gate_spec(golden_cases())}
    folder = tmp_path_factory.mktemp("trained") / "root"
    root = TrainerRoot(
        folder, checkpoint_steps=(10, STEP), gates=gates, parameters=ALL_WEIGHTS, spec=SPEC
    ).write(tiny_model)
    assert recipe.run(root.context(), Interruption()) is Outcome.COMPLETED
    return root


@pytest.fixture
def root(trained, tmp_path, monkeypatch) -> TrainerRoot:
    """A copy of the trained root, and the environment of a process in it."""
    shutil.copytree(trained.path, tmp_path / "root")
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "root"))
    return TrainerRoot(tmp_path / "root", checkpoint_steps=trained.checkpoint_steps, gates=trained.gates)


def gate() -> int:
    return main(["gate", "--stage", STAGE, "--step", str(STEP)])


def artifact(root: TrainerRoot):
    return root.workspace / root.paths.model


def result(root: TrainerRoot) -> GateResult:
    return GateResult.model_validate_json((root.workspace / root.paths.gate / "result.json").read_bytes())


def test_every_weight_changes_and_the_base_on_the_volume_does_not(trained, tiny_model):
    before = load_file(tiny_model / "model.safetensors")
    after = load_file(trained.checkpoint(STEP) / "model.safetensors")
    assert after.keys() == before.keys()
    assert not [name for name in before if torch.equal(before[name], after[name])]
    assert trained.losses()[-1] < trained.losses()[0] / 2
    base = trained.workspace / trained.paths.base_model(trained.context().plan.model.digest)
    assert not verify(base, beside=("evals",))


def test_a_checkpoint_holds_what_resuming_needs_and_nothing_that_runs_code(trained):
    assert sorted(path.name for path in trained.checkpoint(STEP).iterdir()) == [
        "DONE",
        "config.json",
        "manifest.json",
        "model.safetensors",
        "optimizer.pt",
        "rng_state.pth",
        "scheduler.pt",
        "trainer_state.json",
    ]


def test_an_interrupted_run_continues_the_same_run(make_root, monkeypatch):
    whole, root = (make_root(checkpoint_steps=(3, 6), parameters=ALL_WEIGHTS, spec=SPEC) for _ in range(2))
    recipe.run(whole.context(), Interruption())
    append = LossFile.append

    def append_and_stop(self: LossFile, line: dict[str, float]) -> None:
        append(self, line)
        if line["step"] == 4:
            monkeypatch.setattr(LossFile, "append", append)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(LossFile, "append", append_and_stop)
    monkeypatch.setenv(ROOT_VARIABLE, str(root.path))
    assert main(["train", "--stage", STAGE]) == ExitCode.INTERRUPTED
    assert main(["train", "--stage", STAGE, "--attempt", "2"]) == ExitCode.OK
    assert root.losses() == whole.losses()
    assert [root.evaluation(step).digest for step in (3, 6)] == [
        whole.evaluation(step).digest for step in (3, 6)
    ]


def test_a_checkpoint_that_was_not_evaluated_is_evaluated_with_its_own_weights(root, trained):
    shutil.rmtree(root.workspace / root.paths.evaluation(STAGE, STEP))
    assert main(["train", "--stage", STAGE, "--attempt", "2"]) == ExitCode.OK
    assert root.evaluation(STEP).outcomes == trained.evaluation(STEP).outcomes
    assert PASS in root.evaluation(STEP).outcomes["golden/orders"]


def test_the_whole_model_is_judged_as_it_would_be_published(root):
    assert gate() == ExitCode.OK
    base, final = result(root).evaluations
    assert base.outcomes["golden/orders"].count(PASS) == 0
    assert final.outcomes["golden/orders"] == PASS * 20
    assert result(root).verdict is VerdictState.PASSED
    names = {path.name for path in artifact(root).iterdir()}
    assert names >= {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"}
    assert "optimizer.pt" not in names
    assert not verify(artifact(root))
    first = result(root).artifact
    assert gate() == ExitCode.OK
    assert result(root).artifact == first, "the same checkpoint makes the same bytes"


def test_other_weights_are_another_artifact(root):
    gate()
    first = result(root).artifact
    checkpoint = root.checkpoint(STEP)
    weights = load_file(checkpoint / "model.safetensors")
    save_file(
        {name: torch.zeros_like(tensor) for name, tensor in weights.items()},
        checkpoint / "model.safetensors",
        metadata={"format": "pt"},
    )
    (checkpoint / "DONE").unlink()
    seal(checkpoint)
    gate()
    assert result(root).artifact != first
    assert result(root).verdict is VerdictState.FAILED


def test_it_is_published_in_the_type_that_the_base_is_stored_in(root):
    base = root.workspace / root.paths.base_model(root.context().plan.model.digest)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    shutil.move(base / "evals", root.path / "evals")
    (base / "DONE").unlink()
    seal(base)
    shutil.move(root.path / "evals", base / "evals")
    assert gate() == ExitCode.OK
    weights = load_file(artifact(root) / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert AutoModelForCausalLM.from_pretrained(artifact(root)).dtype == torch.bfloat16
    assert result(root).evaluations[1].outcomes["golden/orders"] == PASS * 20
