"""The loss: only completions count, it is averaged over whole batches, and packing does not change it."""

import json
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

from support.trainer_root import ITEMS, TrainerRoot, rows
from tunegate_api.messages import Message
from tunegate_trainer.models.loading import load_base
from tunegate_trainer.process.errors import BadDataError
from tunegate_trainer.roles import train as train_role
from tunegate_trainer.tokens.chat import load_tokenizer
from tunegate_trainer.tokens.examples import tokenize_rows
from tunegate_trainer.tokens.rows import Row
from tunegate_trainer.tokens.shared_prefix import allow_shared_prefixes, share_prefixes
from tunegate_trainer.train.attention import BY_EXAMPLE
from tunegate_trainer.train.dataset import training_dataset, training_order
from tunegate_trainer.train.start import trainable
from tunegate_trainer.train.trainer import CompletionTrainer

SHARED = "shared prefixes"


@pytest.fixture(params=["sdpa", BY_EXAMPLE, SHARED])
def trainer(request, make_root, base_model) -> CompletionTrainer:
    """A trainer with an adapter that is not zero and without dropout, with the attention of GPUs and CPUs."""
    root: TrainerRoot = make_root(parameters={"lora_dropout": 0.0})
    stage, plan, cpu = root.context().plan.stages[0], root.context().plan, torch.device("cpu")
    tokenizer = load_tokenizer(base_model)
    base = load_base(base_model, "float32", cpu)
    base.set_attn_implementation("sdpa" if request.param == "sdpa" else BY_EXAMPLE)
    if request.param == SHARED:
        allow_shared_prefixes(base)
    model = trainable(base, plan.model, stage.parameters)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    return CompletionTrainer(
        model=model,
        pass_tokens=1024,
        args=train_role.trainer_arguments(stage, cpu, root.path / "scratch"),
        train_dataset=training_dataset(
            tokenize_rows(tokenizer, rows("train", 8), 128), steps=6, batch_size=4, seed=1
        ),
        processing_class=tokenizer,
    )


def step_inputs(trainer: CompletionTrainer) -> dict[str, Any]:
    batch: dict[str, Any] = next(iter(trainer.get_train_dataloader()))
    assert "shared_prefixes" in share_prefixes(batch), "the template's"
    return batch


def loss_and_gradients(model: Any, loss: torch.Tensor) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_same(
    left: tuple[float, dict[str, torch.Tensor]], right: tuple[float, dict[str, torch.Tensor]], exact: bool
) -> None:
    assert left[0] == pytest.approx(right[0], rel=1e-5)
    assert left[1].keys() == right[1].keys()
    for name, gradient in left[1].items():
        if exact:
            torch.testing.assert_close(gradient, right[1][name], rtol=1e-4, atol=1e-7)
        assert (gradient - right[1][name]).norm() <= 1e-4 * gradient.norm(), name


def test_only_completion_and_end_of_turn_are_labelled(tiny_model):
    tokenizer = load_tokenizer(tiny_model)
    row = Row(id="r", prompt=[Message(role="user", content="mug to Oslo")], completion="yes 2")
    (example,) = tokenize_rows(tokenizer, [row], 128)
    carried = [token for token, label in zip(*example.values(), strict=True) if label != -100]
    assert tokenizer.decode(carried) == "yes 2<|im_end|>"
    assert tokenizer.decode(example["input_ids"]) == (
        "<|im_start|>user\nmug to Oslo<|im_end|>\n<|im_start|>assistant\nyes 2<|im_end|>"
    )


def test_loss_equals_trl_on_same_rows(trainer, exact):
    ours = trainer.compute_loss(trainer.model, step_inputs(trainer), num_items_in_batch=40)
    theirs = SFTTrainer.compute_loss(trainer, trainer.model, step_inputs(trainer), num_items_in_batch=40)
    assert_same(
        loss_and_gradients(trainer.model, ours),
        loss_and_gradients(trainer.model, theirs),
        exact,
    )


def test_packed_and_padded_examples_have_same_loss_and_gradients(trainer, exact):
    examples = [dict(trainer.train_dataset[i]) for i in range(4)]
    assert len({len(e["input_ids"]) for e in examples}) > 1, "examples of one length prove nothing"
    padded = DataCollatorForLanguageModeling(pad_token_id=0)(examples)
    labels = padded.pop("labels")[:, 1:]
    logits = trainer.model(**padded).logits[:, :-1]
    loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    packed = trainer.compute_loss(trainer.model, step_inputs(trainer))
    assert_same(loss_and_gradients(trainer.model, packed), loss_and_gradients(trainer.model, loss), exact)


def test_example_loss_does_not_depend_on_earlier_packed_examples(trainer, exact):
    examples = [dict(trainer.train_dataset[i]) for i in range(2)]
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    length = len(examples[1]["input_ids"])
    with torch.no_grad():
        alone = trainer.model(**without_labels(collate(examples[1:]))).logits[0]
        packed = trainer.model(**without_labels(collate(examples))).logits[0, -length:]
    scale = 1.0 if exact else float(alone.abs().max())
    torch.testing.assert_close(alone, packed, rtol=1e-5, atol=1e-5 * scale)


def without_labels(batch: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in batch.items() if k != "labels"} | {"use_cache": False}


def test_optimizer_step_does_not_depend_on_passes(make_root, base_model, exact):
    steps = []
    rate = {} if exact else {"learning_rate": 1e-4}  # the tiny model's rate is too high for a real one
    for pass_tokens in (1024, 84, 1):  # one pass, several, and one for each example
        sizes = {"batch_size": 8, "pass_tokens": pass_tokens, "lora_dropout": 0.0}
        root: TrainerRoot = make_root(model=base_model, checkpoint_steps=(3,), parameters={**sizes, **rate})
        train_role.run(root.context())
        lines = (root.stage_folder / "losses.jsonl").read_text().splitlines()
        steps.append([json.loads(line) for line in lines])
    for line, *others in zip(*steps, strict=True):
        for other in others:
            assert other["tokens"] == line["tokens"], "the same rows"
            assert other["loss"] == pytest.approx(line["loss"], rel=1e-4)
            assert other["grad_norm"] == pytest.approx(line["grad_norm"], rel=1e-4)


def test_each_epoch_shuffles_and_covers_every_row():
    order = training_order(rows=5, count=13, seed=3)
    first, second, rest = order[:5], order[5:10], order[10:]
    assert sorted(first) == sorted(second) == list(range(5))
    assert first != second
    assert len(set(rest)) == 3
    assert order == training_order(rows=5, count=13, seed=3)
    assert order != training_order(rows=5, count=13, seed=4)


def test_too_long_row_is_named_not_truncated(tiny_model):
    long = Row(id="long-one", prompt=[Message(role="user", content=" ".join(ITEMS * 9))], completion="yes")
    with pytest.raises(
        BadDataError, match=r"1 row .* longer than 40 tokens \(training.maxLength\): long-one"
    ):
        tokenize_rows(load_tokenizer(tiny_model), [*rows("train", 2), long], 40)
