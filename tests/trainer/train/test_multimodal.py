"""Multimodal models: only the language model is trained, on text; the vision tower does not change."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from support.multimodal_models import save_multimodal_model
from support.trainer_root import ALL_WEIGHTS, TrainerRoot, data_root
from tunegate_api.contract.plan import Plan
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Outcome
from tunegate_trainer.main import main
from tunegate_trainer.models.loading import load_base
from tunegate_trainer.roles import train as train_role

pytestmark = pytest.mark.model
CPU = torch.device("cpu")
LANGUAGE = {
    "gemma3": "model.language_model.",
    "mistral3": "model.language_model.",
    "qwen2_5_vl": "model.language_model.",
    "smolvlm": "model.text_model.",
    "qwen3_5": "model.",
}
PARTS = {
    "gemma3": ["model.vision_tower"],
    "mistral3": ["model.vision_tower", "model.multi_modal_projector"],
    "qwen2_5_vl": ["model.visual"],
    "smolvlm": ["model.vision_model", "model.connector"],
    "qwen3_5": None,
}


@pytest.fixture(
    params=[name if name == "gemma3" else pytest.param(name, marks=pytest.mark.slow) for name in LANGUAGE]
)
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def folder(family: str, tmp_path: Path) -> Path:
    return save_multimodal_model(tmp_path / family, family)


def adapted(checkpoint: Path) -> set[str]:
    """Return the layers that have an adapter."""
    names = load_file(checkpoint / "adapter_model.safetensors")
    return {name.removeprefix("base_model.model.").partition(".lora_")[0] for name in names}


def test_adapter_is_only_on_the_language_model(family, folder, make_root, judge):
    excluded = PARTS[family]
    root: TrainerRoot = make_root(
        model=folder, checkpoint_steps=(2,), parameters={"lora_dropout": 0.0, "excluded_modules": excluded}
    )
    assert train_role.run(root.context()) is Outcome.COMPLETED
    found = adapted(root.checkpoint(2))
    assert all(name.startswith(LANGUAGE[family]) for name in found)
    linears = {n for n, m in load_base(folder, "float32", CPU).named_modules() if type(m) is torch.nn.Linear}
    assert found == {n for n in linears if n.startswith(LANGUAGE[family])}
    result = judge(root, 2)
    assert result.evaluations[1].outcomes["golden/orders"] == root.evaluation(2).outcomes["golden/orders"]


def test_full_fine_tuning_trains_only_the_language_model(make_root, tmp_path):
    folder = save_multimodal_model(tmp_path / "smolvlm", "smolvlm")
    changes = {"excluded_modules": PARTS["smolvlm"]}
    root: TrainerRoot = make_root(model=folder, checkpoint_steps=(2,), parameters=ALL_WEIGHTS | changes)
    assert train_role.run(root.context()) is Outcome.COMPLETED
    before, after = (load_base(path, "float32", CPU).state_dict() for path in (folder, root.checkpoint(2)))
    trained = {name for name in before if not torch.equal(before[name], after[name])}
    assert trained
    assert all(name.startswith(("model.text_model.", "lm_head.")) for name in trained)


def plan_of(model: Path, path: Path, monkeypatch: pytest.MonkeyPatch, *targets: str) -> Plan:
    """Return the data role's plan for a model and the target modules that a user names."""
    root = data_root(model, path, *targets)
    monkeypatch.setenv(ROOT_VARIABLE, str(root.path))
    assert main(["data"]) == ExitCode.OK
    plan = Plan.model_validate_json((root.data / "plan.json").read_bytes())
    (root.path / "plan").mkdir()
    (root.path / "plan" / "plan.json").write_bytes((root.data / "plan.json").read_bytes())
    return plan


@pytest.mark.parametrize(
    ("targets", "excluded"),
    [
        ((), ["model.vision_model", "model.connector"]),
        (("q_proj", "v_proj"), ["model.vision_model", "model.connector"]),
        (("q_proj", "fc1"), ["model.connector"]),
        (("model.connector.modality_projection.proj",), ["model.vision_model"]),
        (("fc2", "modality_projection.proj"), None),
    ],
)
def test_plan_excludes_model_parts_unless_only_they_have_targets(tmp_path, monkeypatch, targets, excluded):
    folder = save_multimodal_model(tmp_path / "smolvlm", "smolvlm")
    plan = plan_of(folder, tmp_path / "root", monkeypatch, *targets)
    assert plan.stages[0].parameters.excluded_modules == excluded
    assert plan.model.shape is not None
    assert {one.name for one in plan.model.shape.linears}.isdisjoint({"fc1", "fc2", "proj"})


def test_plan_states_recurrent_model_computes_one_example_at_once(tmp_path, monkeypatch):
    plain, recurrent = (
        plan_of(save_multimodal_model(tmp_path / family, family), tmp_path / f"{family}-root", monkeypatch)
        for family in ("smolvlm", "qwen3_5")
    )
    found = [
        [text for text in plan.data.warnings if "one example at a time" in text]
        for plan in (plain, recurrent)
    ]
    assert found[0] == []
    assert "need causal_conv1d" in found[1][0]


def test_mistral3_goes_through_all_roles(tmp_path, monkeypatch):
    folder = save_multimodal_model(tmp_path / "mistral3", "mistral3")
    (folder / "preprocessor_config.json").write_text("{}")
    plan = plan_of(folder, tmp_path / "root", monkeypatch)
    assert plan.stages[0].parameters.excluded_modules == PARTS["mistral3"]
    assert main(["train", "--stage", "sft"]) == ExitCode.OK
    assert main(["gate", "--stage", "sft", "--step", "2"]) == ExitCode.OK
    root = TrainerRoot(tmp_path / "root")
    assert adapted(root.workspace / root.paths.model) == adapted(root.checkpoint(2))


def test_merged_multimodal_model_keeps_vision_tower_and_processor(tmp_path, make_root, judge):
    folder = save_multimodal_model(tmp_path / "gemma3", "gemma3")
    (folder / "preprocessor_config.json").write_text("{}")
    root: TrainerRoot = make_root(
        model=folder,
        checkpoint_steps=(2,),
        parameters={"lora_dropout": 0.0, "excluded_modules": PARTS["gemma3"]},
        spec={"artifact": {"form": "Merged"}},
    )
    train_role.run(root.context())
    judge(root, 2)
    artifact = root.workspace / root.paths.model
    assert (artifact / "preprocessor_config.json").read_text() == "{}"
    assert any("vision_tower" in name for name in load_file(artifact / "model.safetensors"))
