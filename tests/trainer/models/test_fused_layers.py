"""Liger's kernels for norms and MLPs. Functions of PyTorch replace the kernels, which need a GPU."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import rms_norm, silu
from transformers import Gemma2Config, LlamaConfig, Qwen3Config

from support.random_models import save_random_model
from tunegate_trainer.models.fused_layers import Kernels, replace_layers
from tunegate_trainer.models.loading import load_base


def norm(x: torch.Tensor, weight: torch.Tensor, eps: float, *, in_place: bool) -> torch.Tensor:
    assert not in_place
    return rms_norm(x.float(), weight.shape, eps=eps).to(x.dtype) * weight


def gated(gate: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return silu(gate) * values


KERNELS = Kernels(norm, gated)


def random_model(folder: Path, kind: type, dtype: str = "float32", **settings: Any) -> Any:
    model = load_base(save_random_model(folder / "model", kind, **settings), dtype, torch.device("cpu"))
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data.normal_()
    return model


def logits_and_gradients(model: Any) -> list[torch.Tensor]:
    model.zero_grad()
    logits = model(input_ids=torch.arange(5, 25)[None]).logits
    logits.float().square().mean().backward()
    return [logits.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", [LlamaConfig, Qwen3Config])
def test_norms_and_mlps_use_kernels_with_the_same_results(tmp_path, kind, dtype):
    model = random_model(tmp_path, kind, dtype, num_key_value_heads=2)
    expected = logits_and_gradients(model)
    name = kind.__name__.removesuffix("Config")
    assert replace_layers(model, KERNELS) == {f"{name}RMSNorm", f"{name}MLP"}
    found = logits_and_gradients(model)
    assert len(found) == len(expected) > 10
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3 if dtype == "bfloat16" else 1e-6)


def test_adapters_of_mlps_are_trained_with_kernels(tmp_path):
    model = random_model(tmp_path, LlamaConfig)
    replace_layers(model, KERNELS)
    tuned = get_peft_model(model, LoraConfig(r=2, target_modules=["gate_proj", "down_proj"]))
    logits_and_gradients(tuned)
    changed = [name for name, p in tuned.named_parameters() if p.grad is not None and p.grad.any()]
    assert len(changed) == 2 * 2, "the second factor of each of two adapters in two layers"


def test_layer_keeps_its_own_computation_if_the_output_changes(tmp_path, caplog):
    model = random_model(tmp_path, LlamaConfig)
    expected = logits_and_gradients(model)[0]
    replaced = replace_layers(model, Kernels(lambda *_, **__: torch.ones(1, 8, 64), gated))
    assert replaced == {"LlamaMLP"}
    assert "LlamaRMSNorm uses no fused kernel, which is slower: the output changes by" in caplog.text
    torch.testing.assert_close(logits_and_gradients(model)[0], expected)


def test_layer_keeps_its_own_computation_if_the_kernel_fails(tmp_path, caplog):
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("Failed to find C compiler.\nPlease specify one.")

    model = random_model(tmp_path, LlamaConfig)
    assert replace_layers(model, Kernels(fail, fail)) == set()
    assert "slower: RuntimeError: Failed to find C compiler.\n" in caplog.text


@pytest.mark.parametrize(
    ("kind", "settings"), [(LlamaConfig, {"hidden_act": "gelu"}), (Gemma2Config, {})], ids=["GELU", "Gemma 2"]
)
def test_other_activations_and_norms_are_left_alone(tmp_path, kind, settings):
    model = random_model(tmp_path, kind, **settings)
    assert not {name for name in replace_layers(model, KERNELS) if name.endswith("MLP")}
    assert kind is LlamaConfig or not replace_layers(model, KERNELS)
