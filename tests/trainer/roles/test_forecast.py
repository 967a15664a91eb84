"""``tunegate plan`` for published models, of which only config.json is available."""

from pathlib import Path
from typing import Any

import pytest

from support.command import manifests
from support.published_models import (
    ATTENTION,
    GPT_OSS_20B,
    LLAMA_3_8B,
    PUBLISHED_MODELS,
    QWEN3_30B_A3B,
    Published,
    adapted,
)
from tunegate_api.contract.forecast import Forecast
from tunegate_api.v1alpha2 import FineTuneJob
from tunegate_trainer.roles.forecast import forecast

EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]


def planned(root: Path, folder: Path, adapter: dict[str, Any] | None = None, **stage: Any) -> Forecast:
    """Return the forecast of a job with the model in ``folder``, whose rows are not available."""
    stages = [{"name": "sft", "method": "SFT", "adapter": {"type": "LoRA", **(adapter or {})}, **stage}]
    objects = manifests(
        folder,
        model={"uri": f"file://{folder}"},
        data={"goal": "StyleOrFormat", "sources": [{"name": "train", "uri": "pvc://data/train.jsonl"}]},
        resources={"accelerator": "GPU"},
        stages=stages,
    )
    job = FineTuneJob.model_validate(next(obj for obj in objects if obj["kind"] == "FineTuneJob"))
    return forecast(root, job, [])


@pytest.mark.parametrize(
    ("model", "names"),
    [
        *(pytest.param(model, (), id=model.id) for model in PUBLISHED_MODELS),
        *(
            pytest.param(model, (*ATTENTION, *EXPERTS), id=f"{model.id} with experts")
            for model in PUBLISHED_MODELS
            if model.layers == ATTENTION
        ),
    ],
)
def test_plan_from_config_json_has_the_peft_models_memory(model: Published, names, tmp_path):
    folder = model.save(tmp_path / "model")
    found = planned(tmp_path, folder, {"targetModules": [*names]} if names else None)
    assert found.failure is None, found.failure
    (stage,) = found.stages
    tuned = adapted(folder, stage.parameters)
    base = sum(p.numel() for p in tuned.parameters() if not p.requires_grad)
    trained = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    assert found.model.parameters == base
    assert stage.memory is not None
    assert stage.memory.weights == pytest.approx(2 * base, rel=0.02)
    assert stage.memory.adapter == pytest.approx(4 * trained, rel=0.02)
    assert stage.memory.gradients == pytest.approx(4 * trained, rel=0.02)
    assert stage.memory.optimizer == pytest.approx(8 * trained, rel=0.02)
    assert any("the routed experts" in note for note in found.notes) is (
        model.layers == ATTENTION and not names
    )


def test_plan_names_trained_layers_and_weights_that_are_not_quantized(tmp_path):
    folder = QWEN3_30B_A3B.save(tmp_path / "model")
    assert planned(tmp_path, folder, quantization="NF4").notes[-2:] == [
        "stage sft: the adapter trains k_proj, o_proj, q_proj, v_proj; the routed experts, 95 % of the "
        "weights, are not trained: name experts.gate_up_proj and experts.down_proj in adapter.targetModules "
        "to train them too",
        "stage sft: NF4 stores 3 % of the weights in 4 bits; the others keep 16 bits, because bitsandbytes "
        "quantizes only linear layers, and not the tensors of experts",
    ]


def test_plan_refuses_targets_that_the_model_does_not_have(tmp_path):
    folder = GPT_OSS_20B.save(tmp_path / "model")
    found = planned(tmp_path, folder, {"targetModules": ["gate_proj"]})
    assert found.failure is not None
    assert found.failure.message == "stage sft: adapter.targetModules: the model has no layer gate_proj"
    assert "experts.down_proj, experts.gate_up_proj, k_proj" in found.failure.hint


def test_plan_states_that_dropout_of_the_model_is_on(tmp_path):
    folder = LLAMA_3_8B.save(tmp_path / "model", attention_dropout=0.1)
    note = "stage sft: the model's own dropout is on in training, as in TRL: attention_dropout 0.1"
    assert note in planned(tmp_path, folder).notes
    without = LLAMA_3_8B.save(tmp_path / "without")
    assert not any("dropout" in note for note in planned(tmp_path, without).notes)


def test_gpt_oss_plan_in_mxfp4_states_16_and_4_bits(tmp_path):
    folder = GPT_OSS_20B.save(tmp_path / "model", quantization_config={"quant_method": "mxfp4"})
    found = planned(tmp_path, folder, quantization="NF4")
    assert found.failure is not None
    assert found.failure.message.startswith("model.uri: the model's weights are quantized (mxfp4)")
    assert found.failure.hint == (
        "use a copy of the model in 16 bits, whose weights need 39.0 GiB; if the stage sets quantization: "
        "NF4, they need 38.1 GiB; NF4 does not quantize the experts"
    )


def test_plan_refuses_dropout_on_experts(tmp_path):
    folder = QWEN3_30B_A3B.save(tmp_path / "model")
    found = planned(tmp_path, folder, {"targetModules": ["q_proj", *EXPERTS], "dropout": "0.05"})
    assert found.failure is not None
    assert found.failure.message.startswith("stage sft: adapter.dropout: PEFT has no dropout for experts")
