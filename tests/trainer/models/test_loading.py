"""Weights are loaded directly to their device."""

from pathlib import Path

import pytest
import torch

from support.tensor_memory import peak_bytes, save_model
from tunegate_trainer.models.loading import load_base


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_model(tmp_path, num_hidden_layers=6)
    return tmp_path


def test_weights_load_to_a_device_without_host_memory_copy(model, monkeypatch):
    """The device ``meta`` stands for a GPU: its tensors have no host memory. The file is mapped into memory,
    which the profiler counts as one allocation."""
    monkeypatch.setenv("HF_DEACTIVATE_ASYNC_LOAD", "1")  # allocations in other threads are not counted
    weights = list(load_base(model, "bfloat16", torch.device("cpu")).parameters())
    whole, largest = sum(one.nbytes for one in weights), max(one.nbytes for one in weights)
    mapped = (model / "model.safetensors").stat().st_size
    on_cpu, on_device = (
        peak_bytes(lambda device=device: load_base(model, "bfloat16", torch.device(device)))
        for device in ("cpu", "meta")
    )
    assert on_cpu >= mapped + 0.9 * whole
    assert on_device <= mapped + largest


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_model_is_loaded_in_the_requested_dtype(model, dtype):
    loaded = load_base(model, dtype, torch.device("cpu"))
    assert {weight.dtype for weight in loaded.parameters()} == {getattr(torch, dtype)}
    assert loaded.device == torch.device("cpu")
