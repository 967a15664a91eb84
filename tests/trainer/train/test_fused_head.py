"""TRL's fused LM head, which keeps no logits. On a GPU it computes the losses of large passes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Gemma2Config, GraniteConfig, GraniteMoeConfig, LlamaConfig, MixtralConfig
from trl.kernels import ChunkedLogProbFunction

from support.random_models import ROWS, save_random_model
from tunegate_api.contract.process import Outcome
from tunegate_trainer.models.loading import load_base
from tunegate_trainer.roles import train as train_role
from tunegate_trainer.tokens.examples import example
from tunegate_trainer.tokens.likelihood import flatten, fuse_head, token_losses
from tunegate_trainer.train import packing, start
from tunegate_trainer.train.packing import try_fused_head

CPU = torch.device("cpu")


def random_model(folder: Path, kind: type = LlamaConfig, **settings: Any) -> Any:
    return load_base(save_random_model(folder / "model", kind, **settings), "float32", CPU)


def two_examples() -> dict[str, Any]:
    return flatten([example(list(range(5, 45)), [3, 4, 7]), example([9, 8], [5] * 20)])


def losses_and_gradients(model: Any, **more: Any) -> list[torch.Tensor]:
    model.zero_grad()
    losses, _, balance = token_losses(model, two_examples() | more)
    losses.square().sum().backward()
    found = [losses.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]
    return found if balance is None else [*found, balance.detach()]


def count_fused_passes(model: Any) -> list[bool]:
    """Return a list to which each pass adds whether the fused head computes its losses."""
    passes: list[bool] = []
    model.register_forward_pre_hook(
        lambda _, __, named: passes.append(named.get("fused_lm_head", False)), with_kwargs=True
    )
    return passes


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (LlamaConfig, {}),
        (Gemma2Config, {"final_logit_softcapping": 2.0}),
        (GraniteConfig, {"logits_scaling": 4.0}),
    ],
    ids=["Llama", "Gemma 2 caps logits", "Granite scales logits"],
)
def test_fused_head_changes_neither_losses_nor_gradients(tmp_path, kind, settings):
    model = random_model(tmp_path, kind, **settings)
    expected = losses_and_gradients(model)
    assert try_fused_head(model, ROWS)
    fuse_head(model, above=0)
    passes = count_fused_passes(model)
    found = losses_and_gradients(model)
    assert passes == [True]
    assert len(found) == len(expected) > 10
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [MixtralConfig, GraniteMoeConfig])
def test_logits_are_kept_if_router_logits_are_requested(tmp_path, kind):
    model = random_model(tmp_path, kind, num_key_value_heads=2)
    expected = losses_and_gradients(model, output_router_logits=True)
    assert try_fused_head(model, ROWS)
    fuse_head(model, above=0)
    passes = count_fused_passes(model)
    found = losses_and_gradients(model, output_router_logits=True)
    model.config.output_router_logits = True
    losses_and_gradients(model)
    assert not any(passes)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_logits_are_kept_if_there_are_few_of_them(tmp_path):
    model = random_model(tmp_path)
    assert try_fused_head(model, ROWS)
    passes = count_fused_passes(model)
    losses_and_gradients(model)
    vocabulary = model.config.vocab_size
    fuse_head(model, above=23 * vocabulary)
    losses_and_gradients(model)
    fuse_head(model, above=23 * vocabulary - 1)
    losses_and_gradients(model)
    assert passes == [False, False, True], "23 tokens have a label"


def test_fused_head_is_not_used_with_a_head_adapter(tmp_path):
    model = random_model(tmp_path)
    assert try_fused_head(model, ROWS)
    fuse_head(model, above=0)
    passes = count_fused_passes(model)
    tuned = get_peft_model(model, LoraConfig(r=2, target_modules=["lm_head", "q_proj"]))
    losses_and_gradients(tuned)
    assert not any(passes)
    assert all(p.grad is not None for name, p in tuned.named_parameters() if "lm_head.lora_A" in name)


def test_logits_are_kept_if_the_fused_head_changes_losses(tmp_path, monkeypatch, caplog):
    model = random_model(tmp_path)
    add = packing.add_fused_lm_head
    monkeypatch.setattr(
        packing, "add_fused_lm_head", lambda model, outputs: add(model, temperature=2.0, outputs=outputs)
    )
    assert not try_fused_head(model, ROWS)
    assert "logits are kept: the losses of the LM head has an error of" in caplog.text
    passes = count_fused_passes(model)
    losses_and_gradients(model)
    assert passes == [False]


def in_bfloat16(folder: Path) -> Any:
    """Return a model whose losses depend on rounding, and whose vocabulary has several tiles."""
    settings = {"vocab_size": 70_000, "num_hidden_layers": 4, "initializer_range": 0.4}
    return load_base(save_random_model(folder / "model", LlamaConfig, **settings), "bfloat16", CPU)


@pytest.mark.parametrize("trains_head", [False, True])
def test_exact_head_is_used_in_bfloat16(tmp_path, trains_head):
    model = in_bfloat16(tmp_path)
    weight = model.lm_head.weight
    assert try_fused_head(model, ROWS, trains_head=trains_head)
    assert model.lm_head.weight is weight
    assert weight.requires_grad
    assert "forward" not in vars(model.lm_head)


@pytest.mark.parametrize("make", [random_model, in_bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("part", "trains_head", "is_used"),
    [(0, False, False), (0, True, False), (1, True, False), (1, False, True)],
    ids=["hidden states", "hidden states, all weights", "trained head", "frozen head"],
)
def test_head_without_a_needed_gradient_is_not_used(
    tmp_path, monkeypatch, caplog, make, part, trains_head, is_used
):
    apply = ChunkedLogProbFunction.apply

    def without_gradient(*given: Any) -> Any:
        return apply(*(one.detach() if i == part else one for i, one in enumerate(given)))

    monkeypatch.setattr(ChunkedLogProbFunction, "apply", without_gradient)
    assert try_fused_head(make(tmp_path), ROWS, trains_head=trains_head) is is_used
    assert ("logits are kept" in caplog.text) is not is_used


class _Scaled(torch.autograd.Function):
    """Makes a gradient 2 % too large."""

    @staticmethod
    def forward(_: Any, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.view_as(tensor)

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
        return 1.02 * gradient


def test_head_with_a_slightly_wrong_gradient_is_not_used(tmp_path, monkeypatch, caplog):
    apply = ChunkedLogProbFunction.apply
    monkeypatch.setattr(
        ChunkedLogProbFunction, "apply", lambda hidden, *more: apply(_Scaled.apply(hidden), *more)
    )
    assert not try_fused_head(in_bfloat16(tmp_path), ROWS, trains_head=False)
    assert "the gradient of the input of the LM head has an error of" in caplog.text


def test_logits_are_kept_without_a_compiler_for_the_kernels(tmp_path, monkeypatch, caplog):
    model = random_model(tmp_path)

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC environment variable.")

    monkeypatch.setattr(packing, "add_fused_lm_head", refuse)
    assert not try_fused_head(model, ROWS)
    assert "logits are kept: RuntimeError: Failed to find C compiler." in caplog.text
    losses_and_gradients(model)


def test_stage_trained_with_the_fused_head_has_the_same_losses(make_root, make_trained_root, monkeypatch):
    exact = {"lora_dropout": 0.0}
    expected = make_trained_root(parameters=exact).losses()
    computed, apply = [], ChunkedLogProbFunction.apply

    def counted(*arguments: Any) -> Any:
        computed.append(arguments)
        return apply(*arguments)

    def always(model: Any, rows: Any, **_: bool) -> None:
        assert try_fused_head(model, rows)
        fuse_head(model, above=0)

    monkeypatch.setattr(start, "set_head", always)
    monkeypatch.setattr(ChunkedLogProbFunction, "apply", counted)
    root = make_root(parameters=exact)
    assert train_role.run(root.context()) is Outcome.COMPLETED
    assert len(computed) > 6, "a pass for each step, and others for evaluations"
    assert root.losses() == pytest.approx(expected, rel=1e-4)
