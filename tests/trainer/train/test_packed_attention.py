"""Attention for packed examples on a GPU. A function that computes one example after another replaces the
GPU's kernel."""

import copy
from collections.abc import Callable, Iterator
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, DogeConfig, Gemma3nTextConfig, MistralConfig

from support.random_models import ROWS, save_random_model
from support.trainer_root import rows
from tunegate_trainer.evaluate.generate import greedy
from tunegate_trainer.models.architecture import windows_of
from tunegate_trainer.models.loading import is_sharded, load_base
from tunegate_trainer.tokens.chat import load_tokenizer
from tunegate_trainer.tokens.examples import Example, example, tokenize_rows
from tunegate_trainer.tokens.likelihood import flatten, token_losses
from tunegate_trainer.tokens.shared_prefix import share_prefixes
from tunegate_trainer.train import attention, packing
from tunegate_trainer.train.attention import PACKED
from tunegate_trainer.train.packing import (
    _labelled,
    can_share,
    isolates_examples,
    probe_rows,
    try_packed_attention,
)

CPU = torch.device("cpu")
DTYPES = ["float32", "bfloat16"]


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


def mistral(
    folder: Path,
    window: int | None = None,
    dtype: str = "float32",
    quantization: str | None = None,
    **changes: Any,
) -> Any:
    """Return a model with two query heads for each head of keys and values."""
    settings = {"sliding_window": window, "num_key_value_heads": 2, "intermediate_size": 64, **changes}
    return load_base(save_random_model(folder / "model", MistralConfig, **settings), dtype, CPU, quantization)


Kernel = Callable[..., torch.Tensor]


def in_float32(query: torch.Tensor, *more: Any, **settings: Any) -> torch.Tensor:
    """Accumulate in float32, and round only the output."""
    key, value, *rest = more
    exact = example_by_example(query.float(), key.float(), value.float(), *rest, **settings)
    return exact.to(query.dtype)


def leaking(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *more: Any, **settings: Any) -> Any:
    """Let every example also attend to the last token of the example before it."""
    edges, longest = more[0], more[2] + 1
    starts = [max(0, start - 1) for start in edges[:-1].tolist()]
    read = torch.cat([torch.arange(*at) for at in zip(starts, edges[1:].tolist(), strict=True)])
    sizes = (edges[1:] - torch.tensor(starts)).cumsum(0)
    seen = torch.cat([sizes.new_zeros(1), sizes])
    return example_by_example(query, key[read], value[read], edges, seen, longest, longest, **settings)


def of_double_scale(*tensors: Any, scale: float, **settings: Any) -> torch.Tensor:
    return example_by_example(*tensors, scale=2 * scale, **settings)


def without_gradient_of(part: int) -> Kernel:
    """Return a kernel whose backward pass forgets the query (0), the key (1) or the value (2)."""

    def kernel(*tensors: Any, **settings: Any) -> torch.Tensor:
        kept = [tensor.detach() if i == part else tensor for i, tensor in enumerate(tensors)]
        return example_by_example(*kept, **settings)

    return kernel


class _RoundedGradient(torch.autograd.Function):
    """Rounds a gradient to 3 bits, as a kernel would that accumulates its gradients in few bits."""

    @staticmethod
    def forward(_: Any, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.view_as(tensor)

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.to(torch.float8_e5m2).to(gradient.dtype)


def of_inexact_gradient(query: torch.Tensor, *more: Any, **settings: Any) -> torch.Tensor:
    return example_by_example(_RoundedGradient.apply(query), *more, **settings)


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
    assert try_packed_attention(model, ROWS)
    assert model.config._attn_implementation == PACKED
    found = losses_and_gradients(model, packed())
    assert len(found) == len(expected) > 10
    for one, other in zip(found, expected, strict=True):
        assert torch.dist(one, other) <= 1e-4 * other.norm()
    assert isolates_examples(model, ROWS)


def test_grouped_queries_work_with_kernels_without_enable_gqa(tmp_path, monkeypatch):
    def older(*tensors: Any, scale: float | None, window_size: tuple[int, int]) -> torch.Tensor:
        return example_by_example(*tensors, scale=scale, window_size=window_size, enable_gqa=True)

    monkeypatch.setattr(attention, "varlen_attn", older)
    assert try_packed_attention(mistral(tmp_path), ROWS)


@pytest.mark.usefixtures("kernel")
def test_shared_prefix_is_read_by_both_examples(tmp_path):
    model = mistral(tmp_path)
    expected = losses_and_gradients(model, packed())
    assert try_packed_attention(model, ROWS)
    assert can_share(model, ROWS)
    shared = share_prefixes(packed())
    assert shared["input_ids"].numel() < packed()["input_ids"].numel() - 30
    for one, other in zip(losses_and_gradients(model, shared), expected, strict=True):
        assert torch.dist(one, other) <= 1e-4 * other.norm()


def without_gradient_of_shared_keys(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *more: Any, **settings: Any
) -> torch.Tensor:
    """Let the backward pass forget the keys of a prefix where another segment reads them."""
    edges, edges_of_keys, *_ = more
    is_shared = torch.zeros(len(key), 1, 1, dtype=torch.bool)
    for (start, end), (first, last) in zip(
        pairwise(edges.tolist()), pairwise(edges_of_keys.tolist()), strict=True
    ):
        is_shared[first : last - (end - start)] = True
    return example_by_example(query, torch.where(is_shared, key.detach(), key), value, *more, **settings)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kernel", "shares"), [(in_float32, True), (without_gradient_of_shared_keys, False)])
def test_prefixes_are_shared_only_by_a_kernel_with_exact_gradients(
    tmp_path, monkeypatch, dtype, kernel, shares
):
    monkeypatch.setattr(attention, "varlen_attn", wraps(example_by_example)(kernel))
    model = mistral(tmp_path, dtype=dtype, num_hidden_layers=8, initializer_range=0.2)
    assert try_packed_attention(model, ROWS)
    assert can_share(model, ROWS) is shares
    assert model.config._attn_implementation == PACKED


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("window", [None, 8])
def test_no_mask_of_packed_examples_is_made(tmp_path, monkeypatch, window):
    model = mistral(tmp_path, window)
    assert try_packed_attention(model, ROWS)

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
    assert try_packed_attention(model, ROWS)
    assert greedy(model, prompts, 8, stops=[]) == expected
    assert [greedy(model, [one], 8, stops=[])[0] for one in prompts] == expected


@pytest.mark.usefixtures("kernel")
def test_model_with_attention_dropout_keeps_its_attention(tmp_path, caplog):
    model = mistral(tmp_path, attention_dropout=0.1)
    assert not try_packed_attention(model, ROWS)
    assert model.config._attn_implementation == "sdpa"
    assert "attention has dropout" in caplog.text


@pytest.mark.usefixtures("kernel")
def test_model_that_adds_numbers_to_its_mask_keeps_its_attention(tmp_path, caplog):
    settings = {"num_key_value_heads": 2, "intermediate_size": 64}
    model = load_base(save_random_model(tmp_path, DogeConfig, **settings), "float32", CPU)
    assert not try_packed_attention(model, ROWS)
    assert "attention has a mask of its own" in caplog.text


def test_model_that_rejects_packed_examples_keeps_its_attention(tmp_path, monkeypatch, caplog):
    def rejected(*_: Any, **__: Any) -> Any:
        raise ValueError("packed sequences are not supported")

    monkeypatch.setattr(packing, "token_losses", rejected)
    model = mistral(tmp_path)
    assert not try_packed_attention(model, ROWS)
    assert model.config._attn_implementation == "sdpa"
    assert "packed sequences are not supported" in caplog.text


def test_device_without_the_kernel_keeps_its_attention(tmp_path, caplog):
    model = mistral(tmp_path)
    assert not try_packed_attention(model, ROWS)
    assert model.config._attn_implementation == "sdpa"
    assert "attention for packed examples is not used, which is slower: " in caplog.text


@pytest.mark.usefixtures("kernel")
def test_model_with_unnamed_window_layers_keeps_its_attention(tmp_path, monkeypatch, caplog):
    named = attention.attend_packed

    def unnamed(*arguments: Any, **settings: Any) -> Any:
        return named(*arguments, **(settings | {"sliding_window": None}))

    monkeypatch.setitem(AttentionInterface._global_mapping, PACKED, unnamed)
    model = mistral(tmp_path, window=1000)
    assert not try_packed_attention(model, ROWS)
    assert model.config._attn_implementation == "sdpa"
    assert "not all layers use it and name the window" in caplog.text


@pytest.mark.parametrize("window", [None, 8])
@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_kernel_is_used_although_losses_depend_on_rounding(tmp_path, monkeypatch, dtype, window):
    monkeypatch.setattr(attention, "varlen_attn", wraps(example_by_example)(in_float32))
    model = mistral(tmp_path, window, dtype, num_hidden_layers=8, initializer_range=0.4)
    expected = token_losses(model, _labelled(model, ROWS)).losses
    assert try_packed_attention(model, ROWS)
    if dtype == "bfloat16":
        change = (token_losses(model, _labelled(model, ROWS)).losses - expected).abs().mean().item()
        assert change > torch.finfo(torch.bfloat16).eps ** 0.5, "otherwise the losses would show the kernel"


def test_exact_kernel_is_used_for_the_base_model(base_model, monkeypatch):
    """On tokens 0 to 31, losses of SmolLM2 differ by 0.27 between this kernel and sdpa."""
    monkeypatch.setattr(attention, "varlen_attn", wraps(example_by_example)(in_float32))
    tokenizer = load_tokenizer(base_model)
    assert try_packed_attention(
        load_base(base_model, "bfloat16", CPU), probe_rows(tokenize_rows(tokenizer, rows("train", 3), 256))
    )


@pytest.fixture
def process_group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def sharded(model: Any) -> Any:
    """Shard a model as FSDP does that gathers weights in bfloat16."""
    settings = {"mesh": init_device_mesh("cpu", (1,)), "mp_policy": MixedPrecisionPolicy(torch.bfloat16)}
    for layer in model.model.layers:
        fully_shard(layer, **settings)
    return fully_shard(model, **settings)


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize(("kernel", "is_used"), [(in_float32, True), (of_double_scale, False)])
def test_kernels_are_compared_in_a_sharded_model(tmp_path, monkeypatch, kernel, is_used):
    monkeypatch.setattr(attention, "varlen_attn", wraps(example_by_example)(kernel))
    model = sharded(mistral(tmp_path, initializer_range=0.2))
    assert is_sharded(model)
    assert try_packed_attention(model, ROWS) is is_used


@pytest.mark.parametrize(("kernel", "is_used"), [(in_float32, True), (of_double_scale, False)])
def test_kernels_are_compared_in_a_quantized_model(tmp_path, monkeypatch, kernel, is_used):
    monkeypatch.setattr(attention, "varlen_attn", wraps(example_by_example)(kernel))
    model = mistral(tmp_path, dtype="bfloat16", quantization="NF4", initializer_range=0.2)
    assert try_packed_attention(model, ROWS) is is_used
    assert losses_and_gradients(model, packed())[0].isfinite().all()


def own_token_only(*tensors: Any, **settings: Any) -> torch.Tensor:
    return example_by_example(*tensors, **(settings | {"window_size": (0, 0)}))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (own_token_only, "output"),
        (leaking, "output"),
        (of_double_scale, "output"),
        (without_gradient_of(0), "gradient"),
        (without_gradient_of(1), "gradient"),
        (without_gradient_of(2), "gradient"),
        (of_inexact_gradient, "gradient"),
    ],
    ids=["window", "leak", "scale", "no gradient of queries", "of keys", "of values", "inexact gradient"],
)
def test_wrong_kernel_is_not_used(tmp_path, monkeypatch, caplog, dtype, wrong, what):
    monkeypatch.setattr(attention, "varlen_attn", wraps(example_by_example)(wrong))
    model = mistral(tmp_path, dtype=dtype, initializer_range=0.2)
    assert not try_packed_attention(model, ROWS)
    assert model.config._attn_implementation == "sdpa"
    assert f"the {what} of " in caplog.text
    assert " has an error of " in caplog.text


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(
    ("examples", "expected"),
    [
        ([[1, 2, 3], [4]], [[1, 2, 3], [4]]),
        ([[1, 2], [1, 2], [1, 3]], [[1, 2], [1, 3]]),
        ([[*range(200)], [7, *range(100, 200)]], [[*range(72, 200)], [7, *range(100, 200)]]),
        ([[1, 2, 3], [1, 2, 3]], [[1, 2, 3], [3, 2, 1]]),
    ],
    ids=["two rows", "equal rows", "long rows", "only equal rows"],
)
def test_kernels_are_compared_on_two_different_training_rows(examples, expected):
    assert probe_rows([example(ids, []) for ids in examples]) == expected
    chosen, rejected = example([1, 2], [3]), example([1, 2], [4])
    assert probe_rows([(chosen, rejected)]) == [[1, 2, 3], [1, 2, 4]]


def test_layers_without_keys_of_their_own_have_a_window():
    layers = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
    config = Gemma3nTextConfig(
        num_hidden_layers=4,
        layer_types=layers,
        sliding_window=8,
        num_kv_shared_layers=2,
    )
    assert windows_of(config) == [8, None, 8, None]


@pytest.mark.usefixtures("kernel")
def test_layers_that_do_not_use_the_kernel_keep_their_attention(tmp_path, monkeypatch, caplog):
    model = mistral(tmp_path)
    layer = model.model.layers[1].self_attn
    monkeypatch.setattr(layer, "config", copy.copy(model.config))  # keeps sdpa
    assert not try_packed_attention(model, ROWS)
    assert "not all layers use it" in caplog.text
