"""A stage without an adapter trains all weights: it is resumed, judged and published as a whole model."""

import os
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, OlmoeConfig, OlmoeForCausalLM

from support.trainer_root import ALL_WEIGHTS, STAGE, TrainerRoot, gate_spec, golden_cases
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Outcome
from tunegate_api.verdict.outcomes import PASS, VerdictState
from tunegate_trainer.artifacts.build import judged_dtype
from tunegate_trainer.artifacts.gate_result import GateRoleResult
from tunegate_trainer.main import main
from tunegate_trainer.models.loading import load_base, load_weights
from tunegate_trainer.process.files import seal, verify
from tunegate_trainer.roles import train as train_role
from tunegate_trainer.train.losses import LossFile

SPEC = {"stages": [{"name": STAGE, "method": "SFT"}]}
STEP = 20
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_model) -> TrainerRoot:
    """A root with a stage that has learned its answer. Tests must not write to it."""
    gates = {"orders": gate_spec(golden_cases())}
    folder = tmp_path_factory.mktemp("trained") / "root"
    root = TrainerRoot(
        folder, checkpoint_steps=(10, STEP), gates=gates, parameters=ALL_WEIGHTS, spec=SPEC
    ).write(tiny_model)
    assert train_role.run(root.context()) is Outcome.COMPLETED
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


def result(root: TrainerRoot) -> GateRoleResult:
    return GateRoleResult.model_validate_json((root.workspace / root.paths.gate / "result.json").read_bytes())


def test_full_fine_tuning_changes_all_weights_but_not_base_files(trained, tiny_model):
    before = load_file(tiny_model / "model.safetensors")
    after = load_file(trained.checkpoint(STEP) / "model.safetensors")
    assert after.keys() == before.keys()
    assert not [name for name in before if torch.equal(before[name], after[name])]
    assert trained.losses()[-1] < trained.losses()[0] / 2
    base = trained.workspace / trained.paths.base_model(trained.context().plan.model.digest)
    assert not verify(base)


def test_checkpoint_contains_only_config_manifest_and_weights(trained):
    assert sorted(path.name for path in trained.checkpoint(STEP).iterdir()) == [
        "DONE",
        "config.json",
        "manifest.json",
        "model.safetensors",
    ]


def test_interruption_does_not_change_full_fine_tuning_results(make_root, monkeypatch):
    whole, root = (make_root(checkpoint_steps=(3, 6), parameters=ALL_WEIGHTS, spec=SPEC) for _ in range(2))
    train_role.run(whole.context())
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


def test_unevaluated_checkpoint_is_evaluated_with_its_own_weights(root, trained):
    shutil.rmtree(root.workspace / root.paths.evaluation(STAGE, STEP))
    assert main(["train", "--stage", STAGE, "--attempt", "2"]) == ExitCode.OK
    assert root.evaluation(STEP).outcomes == trained.evaluation(STEP).outcomes
    assert PASS in root.evaluation(STEP).outcomes["golden/orders"]


def test_gate_judges_the_whole_model_that_would_be_published(root):
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


def test_different_weights_give_a_different_artifact_digest(root):
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


def test_whole_model_is_published_in_dtype_of_base(root):
    base = root.workspace / root.paths.base_model(root.context().plan.model.digest)
    stored = {name: t.to(torch.bfloat16) for name, t in load_file(base / "model.safetensors").items()}
    save_file(stored, base / "model.safetensors", metadata={"format": "pt"})
    (base / "DONE").unlink()
    seal(base)
    assert gate() == ExitCode.OK
    weights = load_file(artifact(root) / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert AutoModelForCausalLM.from_pretrained(artifact(root)).dtype == torch.bfloat16
    assert result(root).evaluations[1].outcomes["golden/orders"] == PASS * 20
    assert result(root).weights == root.evaluation(STEP).digest, "not the digest of what was cast"
    parameters = root.context().plan.stages[-1].parameters
    assert judged_dtype(parameters, artifact(root), torch.device("cuda")) == "bfloat16", "as it is served"
    assert judged_dtype(parameters, artifact(root), CPU) == "float32"


def test_checkpoint_with_other_tensor_names_than_the_model_is_loaded(tmp_path):
    """For a mixture of experts, files have a tensor per expert, but transformers has one for all experts."""
    config = OlmoeConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_experts=4,
        num_experts_per_tok=2,
    )
    OlmoeForCausalLM(config).save_pretrained(tmp_path / "base")
    trained, resumed = (load_base(tmp_path / "base", "float32", CPU) for _ in range(2))
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(torch.randn_like(parameter))
    trained.save_pretrained(tmp_path / "checkpoint")
    load_weights(resumed, tmp_path / "checkpoint", meet=lambda: None)
    for name, parameter in trained.named_parameters():
        assert torch.equal(parameter, resumed.get_parameter(name)), name


def test_published_config_has_settings_of_base_not_training(root):
    assert gate() == ExitCode.OK
    base = root.workspace / root.paths.base_model(root.context().plan.model.digest)
    before, after = (AutoConfig.from_pretrained(folder) for folder in (base, artifact(root)))
    assert after.use_cache is before.use_cache is True
    assert after.eos_token_id == before.eos_token_id
