"""Liger's kernels for norms and MLPs. Functions of PyTorch replace the kernels, which need a GPU."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import rms_norm, silu
from transformers import Gemma2Config, LlamaConfig, Qwen3Config, SeedOssConfig
from transformers.models.llama.modeling_llama import LlamaRMSNorm

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
    assert len(changed) == 2 * 2, "lora_B of two adapters in each of two layers"


def test_layer_keeps_its_own_computation_if_the_output_changes(tmp_path, caplog):
    model = random_model(tmp_path, LlamaConfig)
    expected = logits_and_gradients(model)[0]

    def wrong(x: torch.Tensor, *_: Any, in_place: bool) -> torch.Tensor:
        assert not in_place
        return x * 2

    assert replace_layers(model, Kernels(wrong, gated)) == {"LlamaMLP"}
    assert "LlamaRMSNorm uses no fused kernel: output and gradient change by" in caplog.text
    torch.testing.assert_close(logits_and_gradients(model)[0], expected)


def test_layer_keeps_its_own_computation_if_the_kernel_fails(tmp_path, caplog):
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("Failed to find C compiler.\nPlease specify one.")

    model = random_model(tmp_path, LlamaConfig)
    assert replace_layers(model, Kernels(fail, fail)) == set()
    assert "uses no fused kernel: RuntimeError: Failed to find C compiler.\n" in caplog.text


def without_gradient(gate: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return gated(gate.detach(), values)


def with_nan_gradient(gate: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    output = gated(gate, values)
    output.register_hook(lambda gradient: gradient * torch.nan)
    return output


@pytest.mark.parametrize("wrong", [without_gradient, with_nan_gradient])
def test_layer_keeps_its_own_computation_if_only_gradients_change(tmp_path, caplog, wrong):
    model = random_model(tmp_path, LlamaConfig)
    assert replace_layers(model, Kernels(norm, wrong)) == {"LlamaRMSNorm"}
    assert "LlamaMLP uses no fused kernel" in caplog.text


@pytest.mark.parametrize(
    ("kind", "settings", "replaced"),
    [
        (LlamaConfig, {"hidden_act": "gelu"}, {"LlamaRMSNorm"}),
        (SeedOssConfig, {"residual_dropout": 0.1, "num_key_value_heads": 2}, {"SeedOssRMSNorm"}),
        (Gemma2Config, {}, set()),
    ],
    ids=["GELU", "dropout in the MLP", "norm with an offset"],
)
def test_layers_with_other_code_are_left_alone(tmp_path, kind, settings, replaced):
    model = random_model(tmp_path, kind, **settings)
    assert replace_layers(model, KERNELS) == replaced


def test_query_and_key_norms_are_compared_on_many_rows():
    rows = set()

    def noted(x: torch.Tensor, weight: torch.Tensor, eps: float, *, in_place: bool) -> torch.Tensor:
        rows.add((x.shape[1], x.shape[2]))
        return norm(x, weight, eps, in_place=in_place)

    replace_layers(torch.nn.ModuleList([LlamaRMSNorm(32), LlamaRMSNorm(512)]), Kernels(noted, gated))
    assert rows == {(32_768, 32), (8, 512)}
