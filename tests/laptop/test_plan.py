"""``tunegate plan`` estimates a job from its manifests, trains nothing and leaves no files."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from support.builders import make_config_map
from support.command import DPO_AFTER_SFT, Command, manifests, preference_pairs

ON_A_VOLUME = {
    "model": {"uri": "pvc://models/base"},
    "data": {"goal": "StyleOrFormat", "sources": [{"name": "train", "uri": "pvc://data/train.jsonl"}]},
    "resources": {"accelerator": "GPU"},
}


@pytest.fixture
def without_weights(tunegate: Command, tiny_model: Path) -> None:
    """A claim's folder next to the manifests, with a model that has only a config.json."""
    folder = tunegate.folder / "manifests" / "models" / "base"
    folder.mkdir(parents=True)
    shutil.copy(tiny_model / "config.json", folder)


def only_the_job(tunegate: Command, tiny_model: Path, **changes: object) -> str:
    job = next(obj for obj in manifests(tiny_model, **changes) if obj["kind"] == "FineTuneJob")
    return tunegate.write_all([job])


def in_json(tunegate: Command, *paths: str) -> dict:
    result = tunegate("plan", *paths, "-o", "json")
    return json.loads(result.stdout[result.stdout.index("{") :])


def test_plan_shows_rows_method_and_advice_and_leaves_no_files(tunegate, tiny_model):
    result = tunegate("plan", tunegate.write(tiny_model))
    assert result.returncode == 0, result.stdout
    assert "plan of orders" in result.stdout
    assert "data      48 train · 8 dev · 8 test" in result.stdout
    assert "LoRA r 8 on all-linear" in result.stdout
    assert "for preference, style or refusals add a stage with method: DPO" in result.stdout
    assert not tunegate.runs.exists()
    assert tunegate.pods() == []


def test_plan_has_the_same_numbers_as_the_run(tunegate, tiny_model, finished):
    found = in_json(tunegate, tunegate.write(tiny_model))
    ran = finished.status()
    assert {side: found["data"][side]["rows"] for side in ("train", "dev", "test")} == {
        side: ran["data"][side] for side in ("train", "dev", "test")
    }
    (stage,) = found["stages"]
    assert stage["totalSteps"] == ran["progress"]["totalSteps"]
    assert stage["checkpointSteps"] == [checkpoint["step"] for checkpoint in ran["checkpoints"]]
    assert stage["memory"]["weights"] > 2 * found["model"]["parameters"] - 1
    assert found["fits"] == {"sft": {"16GB": True, "24GB": True, "40GB": True, "80GB": True}}


def test_plan_names_excluded_modules_of_a_multimodal_model(tunegate, tmp_path):
    from support.multimodal_models import save_multimodal_model

    model = save_multimodal_model(tmp_path / "mistral3", "mistral3")
    result = tunegate("plan", tunegate.write(model))
    assert result.returncode == 0, result.stdout
    shown = " ".join(result.stdout.split())
    assert "all-linear, without model.vision_tower, model.multi_modal_projector" in shown


@pytest.mark.usefixtures("without_weights")
def test_plan_needs_only_the_model_config(tunegate, tiny_model):
    result = tunegate("plan", only_the_job(tunegate, tiny_model, **ON_A_VOLUME))
    assert result.returncode == 0, result.stdout
    assert "note: no EvalGate golden in these files" in result.stdout
    assert "rows, tokens, steps and the memory of evaluations are unknown" in result.stdout
    assert "stage sft fits a GPU of 16 GB" in result.stdout
    assert "sft 1 x 128" in result.stdout, "one example of maxLength"


def test_plan_of_a_job_exceeding_gpu_shows_memory(tunegate, tiny_model):
    small = {"accelerator": "GPU", "gpu": {"memory": "1Gi", "count": 2}}
    found = in_json(tunegate, tunegate.write(tiny_model, resources=small))
    assert found["failure"]["reason"] == "GpuTooSmall"
    assert "but resources.gpu.memory is 1.0 GiB" in found["failure"]["message"]
    assert found["data"]["train"]["rows"] == 48
    (stage,) = found["stages"]
    assert stage["parallelism"] == "DDP", "of both GPUs"
    assert stage["memory"]["weights"] > 0


def test_plan_warns_that_fsdp_is_untested_on_gpus(tunegate, tiny_model):
    two = {"accelerator": "GPU", "gpu": {"memory": "16Gi", "count": 2}}
    whole = {"name": "sft", "method": "SFT", "training": {"maxLength": 128, "batchSize": 8}}
    found = in_json(tunegate, tunegate.write(tiny_model, resources=two, stages=[whole]))
    assert found["stages"][0]["parallelism"] == "FSDP"
    assert any("sharded by FSDP, which has not run on a GPU yet" in advice for advice in found["advice"])


def test_plan_compares_training_inputs_with_production_inputs(tunegate, tiny_model):
    sources = [{"name": use.lower(), "use": use, "configMap": "rows"} for use in ("Train", "Production")]
    data = {"goal": "StyleOrFormat", "sources": sources, "sizePolicy": "Warn"}
    result = tunegate("plan", tunegate.write(tiny_model, data=data))
    assert result.returncode == 0, result.stdout
    assert "production 64 inputs · a classifier distinguishes them with AUC 0." in result.stdout
    assert "no source has use: Production" not in result.stdout


def test_plan_shows_the_rows_of_mixed_sources(tunegate, tiny_model):
    data = {
        "goal": "StyleOrFormat",
        "sizePolicy": "Warn",
        "sources": [
            {"name": "train", "configMap": "rows"},
            {
                "name": "chats",
                "use": "Mix",
                "configMap": "chats",
                "weight": "2.5",
                "columns": {"prompt": "q", "completion": "a"},
            },
        ],
        "heldOut": {"fraction": "25%"},
    }
    chats = "".join(json.dumps({"q": f"how many {i} lamps?", "a": f"{i}"}) + "\n" for i in range(20))
    objects = [*manifests(tiny_model, data=data), make_config_map("chats", rows__jsonl=chats)]
    result = tunegate("plan", tunegate.write_all(objects))
    assert result.returncode == 0, result.stdout
    assert "data      98 train · 8 dev · 8 test" in result.stdout
    assert "mix       50 of the train rows are from chats" in result.stdout


@pytest.mark.usefixtures("without_weights")
def test_plan_reports_too_small_gpu_without_available_data(tunegate, tiny_model):
    small = ON_A_VOLUME | {"resources": {"accelerator": "GPU", "gpu": {"memory": "1Gi"}}}
    found = in_json(tunegate, only_the_job(tunegate, tiny_model, **small))
    assert found["failure"]["reason"] == "GpuTooSmall"


def with_config_of(tunegate: Command, name: str, **sizes: object) -> None:
    """Write the config.json of a large model into the claim's folder next to the manifests."""
    import transformers

    folder = tunegate.folder / "manifests" / "models" / "base"
    folder.mkdir(parents=True)
    getattr(transformers, name)(dtype="bfloat16", **sizes).save_pretrained(folder)


LLAMA_70B = {
    "vocab_size": 128_256,
    "hidden_size": 8192,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "intermediate_size": 28_672,
}
LLAMA_405B = LLAMA_70B | {
    "hidden_size": 16_384,
    "num_hidden_layers": 126,
    "num_attention_heads": 128,
    "intermediate_size": 53_248,
}


def test_plan_refuses_model_that_gate_cannot_load_on_gpu(tunegate, tiny_model):
    with_config_of(tunegate, "LlamaConfig", **LLAMA_70B)
    whole = {"name": "sft", "method": "SFT", "training": {"maxLength": 1024, "batchSize": 64}}
    shared = {"accelerator": "GPU", "nodes": 8, "gpu": {"memory": "80G", "count": 8}}
    job = only_the_job(tunegate, tiny_model, **ON_A_VOLUME | {"resources": shared, "stages": [whole]})
    found = in_json(tunegate, job)
    assert found["failure"]["reason"] == "GpuTooSmall"
    assert (
        "evaluates the result of stage sft on one GPU, which needs an estimated 139"
        in (found["failure"]["message"])
    )
    assert "quantization: NF4" in found["failure"]["hint"]
    assert found["judging"]["weights"] > 130 * 2**30


def test_plan_refuses_from_config_a_model_exceeding_every_gpu(tunegate, tiny_model):
    with_config_of(tunegate, "LlamaConfig", **LLAMA_405B)
    result = tunegate("plan", only_the_job(tunegate, tiny_model, **ON_A_VOLUME))
    assert result.returncode == 1
    shown = " ".join(result.stdout.split())
    assert "would be refused: GpuTooSmall: stage sft needs an estimated" in shown
    assert "resources.gpu.memory is not set, and the largest GPU has 268.2 GiB" in shown


def test_plan_reports_data_that_would_be_refused(tunegate, tiny_model):
    strict = {
        "goal": "StyleOrFormat",
        "sources": [{"name": "train", "configMap": "rows"}],
        "heldOut": {"fraction": "25%"},
    }
    result = tunegate("plan", tunegate.write(tiny_model, data=strict))
    assert result.returncode == 1
    assert "would be refused: TooFewRows: data has 48 training rows" in result.stdout


def test_plan_without_the_model_config_fails(tunegate, tiny_model):
    (tunegate.folder / "manifests" / "models" / "base").mkdir(parents=True)
    result = tunegate("plan", only_the_job(tunegate, tiny_model, **ON_A_VOLUME))
    assert result.returncode == 1
    assert "NotFound: model.uri: there is no config.json in pvc://models/base" in result.stdout


def test_plan_notes_that_the_start_from_model_is_unavailable(tunegate, tiny_model):
    result = tunegate("plan", only_the_job(tunegate, tiny_model, model={"startFrom": "earlier"}))
    assert result.returncode == 0, result.stdout
    assert "note: model.startFrom: the model of FineTuneJob earlier is not available here" in result.stdout


def test_plan_of_an_unknown_architecture_has_no_memory_estimate(tunegate, tiny_model, tmp_path):
    from transformers import Gemma3nTextConfig

    model = tmp_path / "gemma-3n"
    shutil.copytree(tiny_model, model, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    Gemma3nTextConfig().save_pretrained(model)  # its layers may have different sizes
    stage = {"name": "sft", "method": "SFT", "adapter": {"type": "LoRA"}, "training": {"maxLength": 128}}
    manifests = tunegate.write(model, stages=[stage])
    found = in_json(tunegate, manifests)
    assert "failure" not in found
    assert "config.json does not contain the sizes of the model's layers" in " ".join(found["notes"])
    assert found["data"]["train"]["rows"] == 48
    result = tunegate("plan", manifests)
    assert result.returncode == 0, result.stdout
    assert "MEMORY" not in result.stdout


def test_plan_shows_the_memory_of_each_stage(tunegate, tiny_model):
    objects = [*manifests(tiny_model, **DPO_AFTER_SFT), preference_pairs()]
    result = tunegate("plan", tunegate.write_all(objects), "-o", "yaml")
    assert result.returncode == 0, result.stdout
    found = yaml.safe_load(result.stdout)
    assert [stage["name"] for stage in found["stages"]] == ["sft", "dpo"]
    assert found["stages"][1]["largestPass"]["examples"] == 2 * 4
    assert not any("DPO" in advice for advice in found["advice"])


def test_plan_refuses_a_wrong_manifest_and_counts_its_mistakes(tunegate, tiny_model):
    result = tunegate("plan", tunegate.write(tiny_model, stages=[]))
    assert result.returncode == 2
    assert "1 mistake" in result.stdout
    assert ": spec.stages: has no entries" in result.stdout
