"""Attention for packed examples on a GPU. A function that computes one example after another replaces the
GPU's kernel."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, MistralConfig

from support.random_models import save_random_model
from tunegate_trainer.evaluate.generate import greedy
from tunegate_trainer.models.loading import load_base
from tunegate_trainer.tokens.examples import Example, example
from tunegate_trainer.tokens.likelihood import flatten, token_losses
from tunegate_trainer.tokens.shared_prefix import share_prefixes
from tunegate_trainer.train import attention, packing
from tunegate_trainer.train.attention import PACKED
from tunegate_trainer.train.packing import can_share, isolates_examples, try_packed_attention

CPU = torch.device("cpu")


def example_by_example(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    edges: torch.Tensor,
    edges_of_keys: torch.Tensor,
    longest: int,
    longest_keys: int,
    *,
    scale: float | None,
    window_size: tuple[int, int],
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Compute what ``varlen_attn`` computes, whose first tensors have the shape (tokens, heads, size)."""
    assert longest >= edges.diff().max()
    assert longest_keys >= edges_of_keys.diff().max()
    left, right = window_size
    assert right == 0, "causal"
    outputs = []
    for own, seen in zip(pairwise(edges.tolist()), pairwise(edges_of_keys.tolist()), strict=True):
        q, k, v = (x[slice(*at)].transpose(0, 1) for x, at in ((query, own), (key, seen), (value, seen)))
        distance = torch.arange(k.shape[1] - q.shape[1], k.shape[1])[:, None] - torch.arange(k.shape[1])
        mask = (distance >= 0) & (distance <= left if left >= 0 else True)
        one = scaled_dot_product_attention(q, k, v, mask, scale=scale, enable_gqa=enable_gqa)
        outputs.append(one.transpose(0, 1))
    return torch.cat(outputs)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "varlen_attn", example_by_example)


def mistral(folder: Path, window: int | None = None, **changes: Any) -> Any:
    """Return a model with two query heads for each head of keys and values."""
    settings = {"sliding_window": window, "num_key_value_heads": 2, "intermediate_size": 64, **changes}
    return load_base(save_random_model(folder / "model", MistralConfig, **settings), "float32", CPU)


def packed() -> dict[str, Any]:
    """Return a row of four examples. The first two have the same prompt."""
    one, other = list(range(5, 45)), list(range(60, 90))
    examples: list[Example] = [
        example(one, [3, 4]), example(one, [7, 8, 9]), example(other, [5] * 20), example([50, 51], [8])
    ]  # fmt: skip
    return flatten(examples)


def losses_and_gradients(model: Any, inputs: dict[str, Any]) -> list[torch.Tensor]:
    model.zero_grad()
    losses, numbers, _ = token_losses(model, dict(inputs))
    sums = torch.zeros(4).index_add(0, numbers, losses)
    sums.square().sum().backward()
    return [sums.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("window", [None, 8])
def test_packed_attention_changes_neither_losses_nor_gradients(tmp_path, window):
    model = mistral(tmp_path, window)
    expected = losses_and_gradients(model, packed())
    assert try_packed_attention(model)
    assert model.config._attn_implementation == PACKED
    found = losses_and_gradients(model, packed())
    assert len(found) == len(expected) > 10
    for one, other in zip(found, expected, strict=True):
        assert torch.dist(one, other) <= 1e-4 * other.norm()
    assert isolates_examples(model)


def test_grouped_queries_work_with_kernels_without_enable_gqa(tmp_path, monkeypatch):
    def older(*tensors: Any, scale: float | None, window_size: tuple[int, int]) -> torch.Tensor:
        return example_by_example(*tensors, scale=scale, window_size=window_size, enable_gqa=True)

    monkeypatch.setattr(attention, "varlen_attn", older)
    assert try_packed_attention(mistral(tmp_path))


@pytest.mark.usefixtures("kernel")
def test_shared_prefix_is_read_by_both_examples(tmp_path):
    model = mistral(tmp_path)
    expected = losses_and_gradients(model, packed())
    assert try_packed_attention(model)
    assert can_share(model)
    shared = share_prefixes(packed())
    assert shared["input_ids"].numel() < packed()["input_ids"].numel() - 30
    for one, other in zip(losses_and_gradients(model, shared), expected, strict=True):
        assert torch.dist(one, other) <= 1e-4 * other.norm()


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("window", [None, 8])
def test_no_mask_of_packed_examples_is_made(tmp_path, monkeypatch, window):
    model = mistral(tmp_path, window)
    assert try_packed_attention(model)

    def refused(**_: Any) -> None:
        pytest.fail("the mask has an entry for each pair of tokens")

    monkeypatch.setattr(attention, "sdpa_mask", refused)
    assert token_losses(model, packed()).losses.isfinite().all()


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("window", [None, 8])
def test_generation_is_not_changed_by_packed_attention(tmp_path, window):
    model = mistral(tmp_path, window)
    prompts = [list(range(5, 35)), [9, 8, 7], [20] * 12]
    expected = greedy(model, prompts, 8, stops=[])
    assert try_packed_attention(model)
    assert greedy(model, prompts, 8, stops=[]) == expected
    assert [greedy(model, [one], 8, stops=[])[0] for one in prompts] == expected


@pytest.mark.usefixtures("kernel")
def test_model_with_attention_dropout_keeps_its_attention(tmp_path, caplog):
    model = mistral(tmp_path, attention_dropout=0.1)
    assert not try_packed_attention(model)
    assert model.config._attn_implementation == "sdpa"
    assert "attention has dropout" in caplog.text


def test_model_that_rejects_packed_examples_keeps_its_attention(tmp_path, monkeypatch, caplog):
    def rejected(*_: Any, **__: Any) -> Any:
        raise ValueError("packed sequences are not supported")

    monkeypatch.setattr(packing, "token_losses", rejected)
    model = mistral(tmp_path)
    assert not try_packed_attention(model)
    assert model.config._attn_implementation == "sdpa"
    assert "packed sequences are not supported" in caplog.text


def test_device_without_the_kernel_keeps_its_attention(tmp_path, caplog):
    model = mistral(tmp_path)
    assert not try_packed_attention(model)
    assert model.config._attn_implementation == "sdpa"
    assert "attention for packed examples is not used, which is slower: " in caplog.text


@pytest.mark.usefixtures("kernel")
def test_model_whose_layers_do_not_name_their_window_keeps_its_attention(tmp_path, monkeypatch, caplog):
    named = attention.attend_packed

    def unnamed(*arguments: Any, **settings: Any) -> Any:
        return named(*arguments, **(settings | {"sliding_window": None}))

    monkeypatch.setitem(AttentionInterface._global_mapping, PACKED, unnamed)
    model = mistral(tmp_path, window=1000)
    assert not try_packed_attention(model)
    assert model.config._attn_implementation == "sdpa"
    assert "not all layers name the window" in caplog.text


def test_kernel_that_gives_other_losses_is_not_used(tmp_path, monkeypatch, caplog):
    def own_token_only(*tensors: Any, enable_gqa: bool, **settings: Any) -> torch.Tensor:
        settings |= {"window_size": (0, 0), "enable_gqa": enable_gqa}
        return example_by_example(*tensors, **settings)

    monkeypatch.setattr(attention, "varlen_attn", own_token_only)
    model = mistral(tmp_path)
    assert not try_packed_attention(model)
    assert model.config._attn_implementation == "sdpa"
    assert "the losses change by" in caplog.text
