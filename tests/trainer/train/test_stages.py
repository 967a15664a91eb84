"""Several stages: each starts from a checkpoint of the previous one, and the last is judged as published."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from support.trainer_root import (
    ALL_WEIGHTS,
    STAGE,
    TrainerRoot,
    dpo_plan,
    gate_spec,
    golden_cases,
    stage_plan,
)
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Outcome
from tunegate_api.contract.results import Subject
from tunegate_api.judging.judgement import judge_checkpoint
from tunegate_trainer.evaluate import evaluate as evaluate_module
from tunegate_trainer.main import main
from tunegate_trainer.models.base_model import merged_base
from tunegate_trainer.process import files
from tunegate_trainer.process.errors import StorageError, UserError
from tunegate_trainer.process.files import is_complete, read_manifest, seal, verify, weights_digest
from tunegate_trainer.roles import train as train_role

CPU = torch.device("cpu")
PREFERENCE = {
    "taskMetrics": [
        {"name": "exact_match", "type": "ExactMatch", "min": "0%"},
        {"name": "preference_accuracy", "type": "PreferenceAccuracy", "min": "90%"},
    ]
}


def train(root: TrainerRoot, stage: str = STAGE, start_step: int | None = None) -> None:
    outcome = train_role.run(root.context(stage=stage, start_step=start_step))
    assert outcome is Outcome.COMPLETED


def weights(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_dpo_continues_sft_adapter_and_reuses_its_evaluation(make_trained_root, monkeypatch, judge):
    root = make_trained_root(
        checkpoint_steps=(6,), later=[dpo_plan(checkpoint_steps=(4, 8))], spec=PREFERENCE
    )
    monkeypatch.setattr(evaluate_module, "generate", None)  # evaluating the starting model must not generate
    with pytest.raises(TypeError):  # evaluating the first checkpoint must
        train(root, "dpo", start_step=6)
    monkeypatch.undo()
    start, before = root.evaluation(0, "dpo"), root.evaluation(6)
    assert (start.subject, start.digest, start.outcomes) == (Subject.START, before.digest, before.outcomes)
    train(root, "dpo", start_step=6)
    assert root.evaluation(8, "dpo").outcomes["dev/preference_accuracy"] == "p" * 6
    result = judge(root, 8, "dpo")
    assert result.evaluations[1].outcomes["test/preference_accuracy"] == "p" * 6
    assert "test/preference_accuracy" not in result.generation, "nothing was generated for it"
    artifact = root.workspace / root.paths.model
    assert (artifact / "adapter_model.safetensors").exists(), "an adapter of the base model"
    config = json.loads((artifact / "adapter_config.json").read_text())
    assert config["lora_dropout"] == 0.0


def test_later_stages_golden_set_runs_on_base_and_start(make_root):
    gates = {"orders": gate_spec(golden_cases(8)), "late": gate_spec(golden_cases(4))}
    spec = {
        "stages": [
            {"name": STAGE, "method": "SFT", "gates": [{"name": "orders"}]},
            {"name": "dpo", "method": "DPO", "gates": [{"name": "late"}]},
        ],
        "gates": [{"name": "orders"}],
    }
    root = make_root(checkpoint_steps=(3,), later=[dpo_plan(checkpoint_steps=(3,))], gates=gates, spec=spec)
    train(root)
    assert set(root.evaluation(0).outcomes) == {"golden/orders", "golden/late", "dev/exact_match"}
    assert set(root.evaluation(3).outcomes) == {"golden/orders", "dev/exact_match"}
    train(root, "dpo", start_step=3)
    assert set(root.evaluation(0, "dpo").outcomes) == {"golden/late", "dev/exact_match"}
    results = root.report().results.merged(root.context(stage="dpo").report.results)
    (gate,) = judge_checkpoint(root.context().request, results, root.evaluation(3, "dpo")).gates
    assert gate.baselines == {"BaseModel": root.evaluation(0).outcomes["golden/late"].count("p")}


def test_stage_with_new_adapter_merges_old_and_publishes_model(make_trained_root, tiny_model, judge):
    second = stage_plan("more", (3,), starts_from="Merged", seed=7, lora_dropout=0.0)
    root = make_trained_root(checkpoint_steps=(6,), later=[second])
    train(root, "more", start_step=6)

    merged, before = root.workspace / root.paths.merged("more"), weights(tiny_model)
    assert root.evaluation(0, "more").digest == read_manifest(merged).digest
    found, adapter = weights(merged), load_file(root.checkpoint(6) / "adapter_model.safetensors")
    name = "model.layers.0.self_attn.q_proj"
    update = (
        adapter[f"base_model.model.{name}.lora_B.weight"] @ adapter[f"base_model.model.{name}.lora_A.weight"]
    )
    torch.testing.assert_close(found[f"{name}.weight"], before[f"{name}.weight"] + 2 * update)  # alpha / r
    assert torch.equal(found["model.norm.weight"], before["model.norm.weight"])

    result = judge(root, 3, "more")
    artifact = root.workspace / root.paths.model
    assert not (artifact / "adapter_config.json").exists()
    whole = AutoModelForCausalLM.from_pretrained(artifact)
    unmerged = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(merged), root.checkpoint(3, "more")
    )
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        torch.testing.assert_close(whole(ids).logits, unmerged(ids).logits, rtol=1e-4, atol=1e-4)
    assert (
        result.evaluations[1].outcomes["golden/orders"]
        == root.evaluation(3, "more").outcomes["golden/orders"]
    )


@pytest.mark.slow
def test_full_fine_tuning_stage_may_be_between_two_adapter_stages(make_trained_root, judge):
    stages = [
        stage_plan("whole", (3,), starts_from="Merged", **ALL_WEIGHTS),
        stage_plan("adapter", (3,), starts_from="Merged"),
        dpo_plan(checkpoint_steps=(2,)),
    ]
    root = make_trained_root(checkpoint_steps=(3,), later=stages)
    for stage, start_step in (("whole", 3), ("adapter", 3), ("dpo", 3)):
        train(root, stage, start_step)
    trained = weights(root.checkpoint(3, "whole"))
    for name, tensor in weights(root.workspace / root.paths.merged("adapter")).items():
        assert torch.equal(tensor, trained[name]), name
    result = judge(root, 2, "dpo")
    assert result.weights == weights_digest(read_manifest(root.checkpoint(2, "dpo")).files)
    artifact = weights(root.workspace / root.paths.model)
    assert artifact.keys() == trained.keys()
    assert not torch.equal(
        artifact["model.layers.0.self_attn.q_proj.weight"], trained["model.layers.0.self_attn.q_proj.weight"]
    )


def test_bfloat16_merge_rounds_only_once(tiny_model, tmp_path):
    half = tmp_path / "half"
    shutil.copytree(tiny_model, half)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16)
    model.save_pretrained(half)
    root = TrainerRoot(
        tmp_path / "root", checkpoint_steps=(3,), later=[stage_plan("more", (2,), starts_from="Merged")]
    ).write(half)
    train(root)
    train(root, "more", start_step=3)
    found = weights(root.workspace / root.paths.merged("more"))
    adapter = load_file(root.checkpoint(3) / "adapter_model.safetensors")
    for name in ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"):
        low, high = (adapter[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
        exact = weights(half)[f"{name}.weight"].float() + 2 * high @ low
        assert found[f"{name}.weight"].dtype == torch.bfloat16
        assert torch.equal(found[f"{name}.weight"], exact.to(torch.bfloat16))


def test_second_attempt_reuses_merged_model_unless_damaged(make_trained_root):
    root = make_trained_root(checkpoint_steps=(3,), later=[stage_plan("more", (2, 4), starts_from="Merged")])
    train(root, "more", start_step=3)
    merged = root.workspace / root.paths.merged("more")
    made, digest = (merged / "DONE").stat().st_ino, read_manifest(merged).digest
    shutil.rmtree(root.checkpoint(4, "more"))
    train(root, "more", start_step=3)
    assert (merged / "DONE").stat().st_ino == made
    shutil.rmtree(root.checkpoint(4, "more"))
    spoiled = weights(merged)
    save_file(
        {name: torch.zeros_like(tensor) for name, tensor in spoiled.items()}, merged / "model.safetensors"
    )
    train(root, "more", start_step=3)
    assert not verify(merged)
    assert read_manifest(merged).digest == digest
    assert not list(merged.parent.glob("scratch*"))


def test_gate_refuses_adapter_whose_merged_base_is_damaged(make_trained_root, monkeypatch):
    root = make_trained_root(checkpoint_steps=(3,), later=[stage_plan("more", (2,), starts_from="Merged")])
    train(root, "more", start_step=3)
    (root.workspace / root.paths.merged("more") / "config.json").write_text("{}")
    monkeypatch.setenv(ROOT_VARIABLE, str(root.path))
    assert main(["gate", "--stage", "more", "--step", "2"]) == ExitCode.STORAGE
    assert not is_complete(root.workspace / root.paths.model)


def test_unreadable_merged_model_is_not_reported_as_damaged(make_root, monkeypatch):
    root = make_root(later=[stage_plan("more", starts_from="Merged")])
    folder = root.workspace / root.paths.merged("more")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    seal(folder)
    assert merged_base(root.context(), "more") == folder

    def fails(_: Path) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "sha256_file", fails)
    with pytest.raises(StorageError, match=r"config\.json cannot be read: Input/output error") as raised:
        merged_base(root.context(), "more")
    assert "damaged" not in str(raised.value)


@pytest.mark.parametrize("later", [dpo_plan(), stage_plan("dpo", starts_from="Merged")])
def test_damaged_start_checkpoint_is_refused(make_trained_root, later):
    root = make_trained_root(checkpoint_steps=(3,), later=[later])
    adapter = load_file(root.checkpoint(3) / "adapter_model.safetensors")
    save_file(
        {n: torch.zeros_like(t) for n, t in adapter.items()}, root.checkpoint(3) / "adapter_model.safetensors"
    )
    with pytest.raises(StorageError, match="checkpoint sft/step-000003 is damaged"):
        train(root, "dpo", start_step=3)
    seal(root.checkpoint(3))
    train(root, "dpo", start_step=3)


def test_later_stage_without_start_step_is_refused(make_trained_root):
    root = make_trained_root(checkpoint_steps=(3,), later=[dpo_plan()])
    with pytest.raises(UserError, match="--start-step is missing: stage dpo is not the first stage"):
        train(root, "dpo")
