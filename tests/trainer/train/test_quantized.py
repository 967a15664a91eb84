"""QLoRA: an adapter on a base model whose linear layers are quantized to 4 bits."""

import json

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from support.random_models import EXAMPLES
from support.trainer_root import STAGE, TrainerRoot, dpo_plan, stage_plan
from tunegate_api.contract.process import Outcome
from tunegate_trainer.artifacts.build import write_artifact
from tunegate_trainer.models.loading import load_adapter, load_base
from tunegate_trainer.process.files import sha256_file
from tunegate_trainer.process.interruption import Interrupted, Interruption
from tunegate_trainer.roles import train as train_role
from tunegate_trainer.train.start import Start, load_start, trainable

CPU = torch.device("cpu")
NF4 = {"quantization": "NF4", "lora_dropout": 0.0}
CONFIG = LlamaConfig(
    vocab_size=64, hidden_size=512, intermediate_size=1024, num_hidden_layers=1, num_attention_heads=8
)


def train(root: TrainerRoot, stage: str = STAGE, start_step: int | None = None) -> None:
    outcome = train_role.run(root.context(stage=stage, start_step=start_step))
    assert outcome is Outcome.COMPLETED


def linear_layers(model: nn.Module) -> dict[str, Linear4bit]:
    return {name: module for name, module in model.named_modules() if isinstance(module, Linear4bit)}


def stored_bytes(layer: Linear4bit) -> int:
    """Return the bytes of a layer's codes and of the constants that are needed to dequantize them."""
    state = layer.weight.quant_state.as_dict(packed=True)
    return layer.weight.nbytes + sum(tensor.nbytes for tensor in state.values())


def test_nf4_layers_are_seventy_percent_smaller_than_bfloat16(tmp_path):
    LlamaForCausalLM(CONFIG).save_pretrained(tmp_path)
    layers = linear_layers(load_base(tmp_path, "bfloat16", CPU, "NF4"))
    assert len(layers) == 7
    assert "lm_head" not in layers
    for name, layer in layers.items():
        sixteen_bits = 2 * layer.in_features * layer.out_features
        assert stored_bytes(layer) <= 0.3 * sixteen_bits, name
        assert layer.weight.quant_state.nested, "its scales are quantized too"
        assert layer.weight.quant_state.quant_type == "nf4"
        assert layer.compute_dtype == torch.bfloat16


def test_gradients_flow_through_quantized_layers_after_evaluation(tmp_path, monkeypatch):
    """During an evaluation, bitsandbytes repacks the weights on CPUs with AVX512-BF16, which are rare."""
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)
    LlamaForCausalLM(CONFIG).save_pretrained(tmp_path)
    model = load_base(tmp_path, "bfloat16", CPU, "NF4")
    assert linear_layers(model)
    for layer in linear_layers(model).values():
        assert layer.support_avx512bf16_for_cpu is False
    layer = next(iter(linear_layers(model).values()))
    codes = layer.weight.data.clone()
    model.eval()
    with torch.no_grad():
        model(input_ids=torch.tensor([[1, 2, 3]]))
    assert torch.equal(layer.weight.data, codes)


def test_qlora_trains_float32_adapter_and_keeps_the_base(make_root, tiny_model):
    root = make_root(checkpoint_steps=(10, 20), parameters=NF4)
    train(root)
    losses = root.losses()
    assert losses[-1] < losses[0] / 1.2
    adapter = load_file(root.checkpoint(20) / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in adapter.values()} == {torch.float32}
    rounded = {name: tensor.to(torch.bfloat16).float() for name, tensor in adapter.items()}
    assert not any(torch.equal(adapter[name], rounded[name]) for name in adapter), "never rounded"
    base = root.workspace / root.paths.base_model(root.context().plan.model.digest)
    assert sha256_file(base / "model.safetensors") == sha256_file(tiny_model / "model.safetensors")


def test_trl_does_not_replace_the_qlora_adapter_weights(make_root, tiny_model):
    root = make_root(parameters=NF4)
    plan = root.context().plan
    stage = plan.stages[0]
    model = load_start(Start(tiny_model, "d" * 64), stage.parameters, CPU, EXAMPLES)
    model = trainable(model, plan.model, stage.parameters)
    before = {name: p.clone() for name, p in model.named_parameters() if p.requires_grad}
    codes = {name: layer.weight.data.clone() for name, layer in linear_layers(model).items()}
    train_role.make_trainer(
        stage.parameters,
        model=model,
        args=train_role.trainer_arguments(stage, CPU, root.path / "scratch"),
        train_dataset=train_role.training_dataset(
            [{"input_ids": [1, 2], "labels": [-100, 2]}], steps=1, batch_size=4, seed=1
        ),
        processing_class=train_role.load_tokenizer(tiny_model),
    )
    after = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert before.keys() == after.keys()
    for name, parameter in after.items():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, before[name]), name
    for name, layer in linear_layers(model).items():
        assert torch.equal(layer.weight.data, codes[name])


def test_interruption_of_qlora_does_not_change_any_weight(make_root, at_step):
    whole, root = (make_root(parameters=NF4) for _ in range(2))
    train(whole)
    interruption = Interruption()
    at_step(4, interruption.request)
    with pytest.raises(Interrupted):
        train_role.run(root.context(interruption=interruption))
    train(root)
    assert root.losses() == whole.losses()
    left, right = (load_file(r.checkpoint(6) / "adapter_model.safetensors") for r in (whole, root))
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_qlora_adapter_is_judged_on_the_quantized_base(make_trained_root, judge):
    root = make_trained_root(checkpoint_steps=(10,), parameters=NF4)
    result = judge(root, 10)
    assert (result.quantization, result.dtype) == ("NF4", "float32")
    final = result.evaluations[1].outcomes
    assert final["golden/orders"] == root.evaluation(10).outcomes["golden/orders"]
    assert (root.workspace / root.paths.model / "adapter_model.safetensors").exists()


def test_baseline_of_full_base_is_not_reused_for_quantized_base(make_trained_root):
    root = make_trained_root(checkpoint_steps=(1,), parameters=NF4)
    evaluations = root.workspace / root.paths.baselines
    quantized = set(evaluations.iterdir())
    plan = json.loads((root.path / "plan" / "plan.json").read_text())
    del plan["stages"][0]["parameters"]["quantization"]
    (root.path / "plan" / "plan.json").write_text(json.dumps(plan))
    (root.stage_folder / "step-000001" / "DONE").unlink()
    for result in (root.workspace / root.paths.evaluation(STAGE, 0)).glob("result.json"):
        result.unlink()
    train(root)
    assert len(set(evaluations.iterdir()) - quantized) == len(quantized) == 2


def test_qlora_adapter_is_merged_into_dequantized_base(make_root, judge):
    root = make_root(checkpoint_steps=(10,), parameters=NF4, spec={"artifact": {"form": "Merged"}})
    train(root)
    result = judge(root, 10)
    assert result.quantization is None
    artifact = root.workspace / root.paths.model
    whole = AutoModelForCausalLM.from_pretrained(artifact)
    assert not hasattr(whole.config, "quantization_config")
    assert not linear_layers(whole)
    base = root.workspace / root.paths.base_model(root.context().plan.model.digest)
    unmerged = load_adapter(load_base(base, "float32", CPU, "NF4"), root.checkpoint(10), trainable=False)
    original = load_adapter(load_base(base, "float32", CPU), root.checkpoint(10), trainable=False)
    assert isinstance(unmerged, PeftModel)
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    with torch.no_grad():
        found, trained, other = (model(ids).logits for model in (whole, unmerged, original))
    torch.testing.assert_close(found, trained, rtol=1e-4, atol=1e-4)
    assert (found - trained).abs().max() < (other - trained).abs().max() / 10
    assert result.evaluations[1].outcomes["golden/orders"] == root.evaluation(10).outcomes["golden/orders"]


def test_merge_uses_the_quantization_codes_of_training(make_trained_root, tmp_path):
    """A base that is stored in float32 but trained in bfloat16 has other codes than its float32 weights."""
    root = make_trained_root(checkpoint_steps=(1,), parameters=NF4)
    trained = root.context().plan.stages[0].parameters.model_copy(update={"dtype": "bfloat16"})
    base = root.workspace / root.paths.base_model(root.context().plan.model.digest)
    write_artifact(root.checkpoint(1), base, tmp_path / "artifact", whole=True, trained=trained)
    found = load_file(tmp_path / "artifact" / "model.safetensors")
    quantized = load_base(base, "bfloat16", CPU, "NF4")
    quantized.dequantize()
    adapter = load_file(root.checkpoint(1) / "adapter_model.safetensors")
    name = "model.layers.0.mlp.down_proj"
    low, high = (adapter[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
    assert found[f"{name}.weight"].dtype == torch.float32
    base_weight = quantized.get_parameter(f"{name}.weight").data.float()
    torch.testing.assert_close(found[f"{name}.weight"], base_weight + 2 * high @ low, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_dpo_continues_qlora_adapter_and_later_stage_merges_it(make_root, judge):
    stages = [
        dpo_plan(checkpoint_steps=(3,), quantization="NF4"),
        stage_plan("more", (2,), starts_from="Merged", lora_dropout=0.0),
    ]
    root = make_root(checkpoint_steps=(4,), parameters=NF4, later=stages)
    train(root)
    train(root, "dpo", 4)
    assert root.losses("dpo")[0] == pytest.approx(0.693147, abs=1e-5)
    train(root, "more", 3)
    base = root.workspace / root.paths.base_model(root.context().plan.model.digest)
    unmerged = load_adapter(
        load_base(base, "float32", CPU, "NF4"), root.checkpoint(3, "dpo"), trainable=False
    )
    merged = AutoModelForCausalLM.from_pretrained(root.workspace / root.paths.merged("more"))
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, unmerged(ids).logits, rtol=1e-4, atol=1e-4)
    assert judge(root, 2, "more").quantization is None
