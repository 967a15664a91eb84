"""Shared prefixes of packed examples: losses stay the same, and no labelled token is shared."""

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AttentionInterface, DogeConfig, MistralConfig

from support.random_models import EXAMPLES, ROWS, save_random_model
from support.trainer_root import TrainerRoot
from tunegate_trainer.models.loading import load_base
from tunegate_trainer.roles import train as train_role
from tunegate_trainer.tokens.examples import Example, example
from tunegate_trainer.tokens.likelihood import flatten, log_probs, token_losses
from tunegate_trainer.tokens.shared_prefix import (
    allow_shared_prefixes,
    allows_shared_prefixes,
    segment_sizes,
    share_prefixes,
)
from tunegate_trainer.train import start
from tunegate_trainer.train.attention import BY_EXAMPLE, attend_by_example
from tunegate_trainer.train.packing import can_share

CPU = torch.device("cpu")


def random_tokens(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(3, 300) for _ in range(count)]


def pairs(count: int, system: int = 30, prompt: int = 40) -> list[Example]:
    """Return two examples for each of ``count`` prompts, all after one system message."""
    rng = random.Random(1)
    system_message, examples = random_tokens(rng, system), []
    for _ in range(count):
        tokens = system_message + random_tokens(rng, prompt + rng.randrange(20))
        examples += [example(tokens, random_tokens(rng, 3 + rng.randrange(8))) for _ in range(2)]
    return examples


@pytest.mark.parametrize("length", [40, 300], ids=["short", "long"])
def test_shared_prefixes_change_neither_losses_nor_gradients(base_model: Path, length: int) -> None:
    model = load_base(base_model, "float32", CPU)
    model.set_attn_implementation(BY_EXAMPLE)
    whole = flatten(pairs(2, prompt=length))
    shared = share_prefixes(whole)
    assert shared["input_ids"].numel() < 0.6 * whole["input_ids"].numel()
    found = []
    for inputs in (whole, shared):
        model.zero_grad()
        losses, numbers, _ = token_losses(model, dict(inputs))
        sums = torch.zeros(4).index_add(0, numbers, losses)
        sums.square().sum().backward()
        gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        found.append((sums.detach(), gradients))
    (sums, gradients), (other_sums, other_gradients) = found
    torch.testing.assert_close(sums, other_sums, rtol=1e-5, atol=0)
    for name, gradient in gradients.items():
        assert torch.dist(gradient, other_gradients[name]) <= 1e-4 * gradient.norm(), name


def test_examples_with_a_shared_prefix_are_packed_with_it_once() -> None:
    one, two, three = (example([*range(20), *end], [7, 8]) for end in ([31, 32], [41], [51]))
    inputs = flatten([one, two, three])
    shared = share_prefixes(inputs)
    assert shared["input_ids"].tolist() == [[*range(20), 31, 32, 7, 8, 41, 7, 8, 51, 7, 8]]
    assert shared["position_ids"].tolist() == [[*range(20), 20, 21, 22, 23, 20, 21, 22, 20, 21, 22]]
    assert shared["cu_seq_lens_q"].tolist() == [0, 20, 24, 27, 30]
    assert shared["shared_prefixes"] == [(), (0,), (0,), (0,)]
    assert shared["seq_idx"][0, 20:].tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert flatten([one, two, three])["labels"].equal(inputs["labels"]), "the inputs are not changed"


def test_segment_sizes_are_own_tokens_and_tokens_attended_to() -> None:
    examples = [example([*range(20), 31, 32], [7, 8]), example([*range(20), 41], [7, 8])]
    assert segment_sizes(examples) == [(20, 20), (4, 24), (3, 23)]
    assert segment_sizes(examples[:1]) == [(24, 24)]


def test_token_that_predicts_the_first_label_is_not_shared() -> None:
    twice = [example(list(range(30)), [7, 8])] * 2
    shared = share_prefixes(flatten(twice))
    assert shared["cu_seq_lens_q"].tolist() == [0, 29, 32, 35]
    assert shared["labels"][0, 29:].tolist() == [-100, 7, 8, -100, 7, 8]


def test_shared_prefix_of_chats_ends_before_the_first_answer() -> None:
    chat: Example = {"input_ids": list(range(60)), "labels": [-100] * 25 + [25] + [-100] * 33 + [59]}
    shared = share_prefixes(flatten([chat, chat]))
    assert shared["cu_seq_lens_q"].tolist() == [0, 24, 60, 96]


@pytest.mark.parametrize(
    "examples",
    [
        [example(list(range(9)), [7]), example(list(range(9)), [8])],
        [example(list(range(50)), [7])],
        [example([i, *range(50)], [7]) for i in range(3)],
    ],
    ids=["short prefix", "one example", "no common prefix"],
)
def test_row_is_unchanged_if_sharing_prefixes_saves_nothing(examples: list[Example]) -> None:
    inputs = flatten(examples)
    assert share_prefixes(inputs) is inputs


def mistral(
    folder: Path,
    *,
    window: int | None = None,
    dropout: float = 0.0,
    dtype: str = "float32",
    **changes: Any,
) -> Any:
    settings = {"sliding_window": window, "attention_dropout": dropout, "num_key_value_heads": 2, **changes}
    path = save_random_model(folder / f"{window}-{dropout}", MistralConfig, intermediate_size=64, **settings)
    return load_base(path, dtype, CPU)


def test_model_with_sliding_window_shares_no_prefixes(tmp_path: Path) -> None:
    for window, shares in ((None, True), (64, False)):
        model = mistral(tmp_path, window=window).train()
        assert not can_share(model, ROWS), "not while sdpa attends over the whole row"
        model.set_attn_implementation(BY_EXAMPLE)
        assert can_share(model, ROWS) is shares
        assert model.training


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_base_model_can_share_prefixes_in_float32_and_bfloat16(base_model: Path, dtype: str) -> None:
    model = load_base(base_model, dtype, CPU)
    model.set_attn_implementation(BY_EXAMPLE)
    assert can_share(model, ROWS)


def test_prefixes_are_shared_although_losses_depend_on_rounding(tmp_path: Path) -> None:
    model = mistral(tmp_path, dtype="bfloat16", num_hidden_layers=8, initializer_range=0.4)
    model.set_attn_implementation(BY_EXAMPLE)
    assert can_share(model, ROWS)
    assert model.config._attn_implementation == BY_EXAMPLE


def without_prefixes(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in share_prefixes(inputs).items() if name != "shared_prefixes"}


def at_positions_from_zero(inputs: dict[str, Any]) -> dict[str, Any]:
    shared = share_prefixes(inputs)
    edges = shared["cu_seq_lens_q"].tolist()
    return {**shared, "position_ids": torch.cat([torch.arange(b - a) for a, b in pairwise(edges)])[None]}


def with_wrong_order(inputs: dict[str, Any]) -> dict[str, Any]:
    """Let each answer also attend to the answer before it."""
    shared = share_prefixes(inputs)
    return {**shared, "shared_prefixes": [tuple(range(i)) for i in range(len(shared["shared_prefixes"]))]}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("wrong", [without_prefixes, at_positions_from_zero, with_wrong_order])
def test_wrongly_shared_prefixes_are_not_used(tmp_path: Path, wrong: Any, dtype: str) -> None:
    model = mistral(tmp_path, dtype=dtype, num_hidden_layers=8, initializer_range=0.2)
    model.set_attn_implementation(BY_EXAMPLE)
    assert can_share(model, ROWS)
    assert not can_share(model, ROWS, wrong)


def without_gradient_of_prefixes(module: Any, query: Any, key: Any, *more: Any, **settings: Any) -> Any:
    """Let the backward pass forget what the second example adds to the gradient of the shared keys."""
    edges = settings["cu_seq_lens_q"].tolist()
    found, _ = attend_by_example(module, query, key, *more, **settings)
    forgotten, _ = attend_by_example(module, query, key.detach(), *more, **settings)
    return torch.cat([found[:, : edges[-2]], forgotten[:, edges[-2] :]], dim=1), None


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_prefixes_are_not_shared_if_their_gradient_is_incomplete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    model = mistral(tmp_path, dtype=dtype, num_hidden_layers=8, initializer_range=0.2)
    model.set_attn_implementation(BY_EXAMPLE)
    monkeypatch.setitem(AttentionInterface._global_mapping, BY_EXAMPLE, without_gradient_of_prefixes)
    assert not can_share(model, ROWS)


def gradient_of_keys(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    """Return the gradient of the matrix that makes the keys of the first layer."""
    weight = model.model.layers[0].self_attn.k_proj.weight
    (gradient,) = torch.autograd.grad(token_losses(model, dict(inputs)).losses.sum(), weight)
    return gradient.float()


def test_gradient_of_a_shared_prefix_is_exact_with_many_examples(tmp_path: Path) -> None:
    settings = {"num_hidden_layers": 1, "initializer_range": 0.2}
    exact, model = (mistral(tmp_path, dtype=dtype, **settings) for dtype in ("float32", "bfloat16"))
    exact.load_state_dict(model.state_dict())  # the weights are rounded too
    rng = random.Random(3)
    prompt = random_tokens(rng, 40)
    inputs = flatten([example(prompt, random_tokens(rng, 4)) for _ in range(128)])
    for each in (exact, model):
        each.set_attn_implementation(BY_EXAMPLE)
    reference = gradient_of_keys(exact, inputs)
    apart, shared = (
        (gradient_of_keys(model, each) - reference).abs().mean() for each in (inputs, share_prefixes(inputs))
    )
    assert shared <= 1.05 * apart, "in bfloat16, the error would grow with the number of examples"


def test_prefixes_are_not_shared_if_the_trial_pass_fails(tmp_path: Path) -> None:
    def wrong_lengths(inputs: dict[str, Any]) -> dict[str, Any]:
        return {**share_prefixes(inputs), "cu_seq_lens_q": torch.tensor([0, 1])}

    model = mistral(tmp_path)
    model.set_attn_implementation(BY_EXAMPLE)
    assert not can_share(model, ROWS, wrong_lengths)
    assert model.training is False


def test_model_with_attention_dropout_shares_no_prefixes(tmp_path: Path) -> None:
    for dropout, shares in ((0.0, True), (0.1, False)):
        model = mistral(tmp_path, dropout=dropout)
        model.set_attn_implementation(BY_EXAMPLE)
        before = torch.get_rng_state()
        assert can_share(model, ROWS) is shares
        assert torch.get_rng_state().equal(before), "the trial does not advance the random state"


def test_model_that_adds_numbers_to_its_mask_shares_no_prefixes(tmp_path: Path) -> None:
    settings = {"num_key_value_heads": 2, "intermediate_size": 64}
    model = load_base(save_random_model(tmp_path, DogeConfig, **settings), "float32", CPU)
    model.set_attn_implementation(BY_EXAMPLE)
    assert not can_share(model, ROWS)


def test_lora_dropout_turns_shared_prefixes_off(make_root: Any) -> None:
    def shares(**parameters: float) -> bool:
        root: TrainerRoot = make_root(parameters=parameters)
        context = root.context()
        stage = context.plan.stages[0]
        found = start.Start(root.base_model, context.plan.model.digest)
        return allows_shared_prefixes(start.load_start(found, stage.parameters, CPU, EXAMPLES))

    assert shares(lora_dropout=0.0)
    assert not shares(lora_dropout=0.1)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Token counts of the passes that may share prefixes, after sharing."""
    counts: list[int] = []

    def counted(inputs: dict[str, Any]) -> dict[str, Any]:
        shared = share_prefixes(inputs)
        counts.append(shared["input_ids"].numel())
        return shared

    monkeypatch.setattr("tunegate_trainer.tokens.likelihood.share_prefixes", counted)
    return counts


def test_prompt_of_answers_with_unequal_lengths_is_computed_once(
    base_model: Path, computed: list[int]
) -> None:
    rng = random.Random(2)
    prompts = [random_tokens(rng, 40) for _ in range(3)]
    examples = [example(prompt, random_tokens(rng, n)) for n in (4, 30) for prompt in prompts]
    model = load_base(base_model, "float32", CPU)
    model.set_attn_implementation(BY_EXAMPLE)
    whole = log_probs(model, examples)
    allow_shared_prefixes(model)
    assert log_probs(model, examples) == pytest.approx(whole, rel=1e-5)
    assert computed == [sum(len(one["input_ids"]) for one in examples) - 3 * 39]


def test_sharing_prefixes_does_not_change_training_losses(
    make_root: Any, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (make_root(parameters={"lora_dropout": 0.0}) for _ in range(2))
    train_role.run(one.context())
    monkeypatch.setattr(start, "can_share", lambda *_: False)
    train_role.run(other.context())
    assert one.losses() == pytest.approx(other.losses(), rel=1e-5)
    lines = one.loss_lines()
    assert [line["tokens"] for line in lines] == [line["tokens"] for line in other.loss_lines()]
    assert sum(computed) < 0.9 * sum(line["tokens"] for line in lines)
