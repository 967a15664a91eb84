"""The examples of a step are divided into passes by their tokens, which does not change its result."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from support.families import FAMILIES
from support.random_models import EXAMPLES, save_family
from support.trainer_root import ALL_WEIGHTS, TrainerRoot, dpo_plan, pairs, rows, stage_plan
from tunegate_api.contract.plan import ModelPlan, StagePlan
from tunegate_trainer.process.interruption import Interrupted, Interruption
from tunegate_trainer.roles import train as train_role
from tunegate_trainer.tokens.chat import load_tokenizer
from tunegate_trainer.tokens.examples import tokenize_pairs, tokenize_rows
from tunegate_trainer.tokens.likelihood import computes_singly, select
from tunegate_trainer.train.dataset import PairExamples, training_dataset
from tunegate_trainer.train.overrides import StageTrainer
from tunegate_trainer.train.preference import disable_dropout
from tunegate_trainer.train.start import Start, load_start, trainable

CPU = torch.device("cpu")
ROWS = 8
"""The number of rows or pairs in a step. A row has 23 to 42 tokens, a pair 57 to 93."""
ONE_PASS = 10_000
SFT = {"batch_size": ROWS, "lora_dropout": 0.0}


def make_trainer(folder: Path, stage: StagePlan, scratch: Path) -> StageTrainer:
    """Return a trainer of a model with an adapter that is not zero, or of all weights."""
    parameters, tokenizer = stage.parameters, load_tokenizer(folder)
    model = trainable(
        load_start(Start(folder, "d" * 64), parameters, CPU, EXAMPLES),
        ModelPlan(uri="package://tiny", digest="d" * 64, parameters=1),
        parameters,
    )
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    examples: Any
    if parameters.method == "DPO":
        disable_dropout(model)
        examples = PairExamples(
            tokenize_pairs(tokenizer, pairs("train", ROWS), 128), [(-9.0 - i, -7.0) for i in range(ROWS)]
        )
    else:
        examples = tokenize_rows(tokenizer, rows("train", ROWS), 128)
    return train_role.make_trainer(
        parameters,
        model=model,
        args=train_role.trainer_arguments(stage, CPU, scratch),
        train_dataset=training_dataset(list(examples), steps=2, batch_size=ROWS, seed=1),
        processing_class=tokenizer,
    )


@contextmanager
def passes(trainer: StageTrainer) -> Iterator[list[int]]:
    """Yield a list to which each backward pass adds the tokens that the model has computed for it."""
    found, tokens = [], []
    backward = trainer.accelerator.backward

    def watch(_module: Any, _arguments: Any, inputs: dict[str, Any]) -> None:
        tokens.append(inputs["input_ids"].numel())

    def watched(loss: torch.Tensor, **arguments: Any) -> None:
        found.append(sum(tokens))
        tokens.clear()
        backward(loss, **arguments)

    watching = trainer.model.register_forward_pre_hook(watch, with_kwargs=True)
    trainer.accelerator.backward = watched
    try:
        yield found
    finally:
        trainer.accelerator.backward = backward
        watching.remove()


def first_step(trainer: StageTrainer) -> tuple[float, dict[str, torch.Tensor], list[int]]:
    """Compute the first optimizer step. Return its loss, its gradients, and the tokens of its passes."""
    (batch,), labelled = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), 1, CPU)
    with passes(trainer) as found:
        loss = trainer.training_step(trainer.model, batch, labelled)
    gradients = {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}
    return loss.item(), gradients, found


def assert_equal_steps(
    folder: Path, scratch: Path, stage: StagePlan, budgets: Sequence[int]
) -> list[list[int]]:
    """Assert that the first step has one result for all budgets. Return the tokens of its passes for each."""
    tokens, expected = [], None
    for budget in budgets:
        parameters = stage.parameters.model_copy(update={"pass_tokens": budget})
        trainer = make_trainer(folder, stage.model_copy(update={"parameters": parameters}), scratch)
        loss, gradients, found = first_step(trainer)
        tokens.append(found)
        expected = expected or (loss, gradients)
        assert loss == pytest.approx(expected[0], rel=1e-5)
        assert gradients.keys() == expected[1].keys()
        for name, gradient in gradients.items():
            assert (gradient - expected[1][name]).norm() <= 1e-4 * gradient.norm() + 1e-7, name
    return tokens


STAGES = {
    "SFT": stage_plan("sft", **SFT),
    "all weights": stage_plan("sft", **(SFT | ALL_WEIGHTS)),
    "recomputed": stage_plan("sft", **SFT).model_copy(update={"activation_checkpointing": True}),
    "DPO": dpo_plan(batch_size=ROWS),
    "IPO": dpo_plan(batch_size=ROWS, loss="ipo"),
}


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_losses_and_gradients_do_not_depend_on_pass_count(tiny_model, tmp_path, stage):
    several = 84 if stage.parameters.method == "SFT" else 190
    one, few, singles = assert_equal_steps(tiny_model, tmp_path, stage, (ONE_PASS, several, 1))
    assert (len(one), len(singles)) == (1, ROWS)
    assert 2 < len(few) < ROWS
    assert max(few) <= several


@pytest.mark.parametrize("features", ["longrope", "multimodal, hybrid"])
def test_separately_computed_step_does_not_depend_on_the_token_budget(tmp_path, features):
    """The rows are on both sides of the length at which longrope changes, and the hybrid computes each
    example in a pass of its own."""
    folder = save_family(tmp_path / "model", next(one for one in FAMILIES if one.features == features))
    found = assert_equal_steps(folder, tmp_path, stage_plan("sft", **SFT), (ONE_PASS, 84, 1))
    assert len(found[-1]) == ROWS
    if features == "longrope":
        assert len(found[0]) == 1
    else:
        assert [len(each) for each in found] == [ROWS] * 3


def test_longest_row_is_computed_alone_if_it_exceeds_the_budget(tiny_model, tmp_path):
    trainer = make_trainer(tiny_model, stage_plan("sft", **(SFT | {"pass_tokens": 40})), tmp_path)
    assert not computes_singly(trainer.model)
    assert max(first_step(trainer)[2]) == 41


def test_selected_examples_have_the_format_of_own_rows(tiny_model, tmp_path):
    trainer = make_trainer(tiny_model, stage_plan("sft", **SFT), tmp_path)
    examples = [dict(trainer.train_dataset[i]) for i in range(ROWS)]
    whole, part = trainer.data_collator(examples), trainer.data_collator([examples[i] for i in (1, 4, 6)])
    found = select(whole, (1, 4, 6))
    assert found.keys() == part.keys()
    for name, value in part.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(found[name], value)
        else:
            assert found[name] == value


def test_run_with_several_passes_resumes_with_equal_steps(make_root, at_step):
    parameters = {"batch_size": 8, "pass_tokens": 84, "lora_dropout": 0.1}
    whole: TrainerRoot = make_root(parameters=parameters)
    train_role.run(whole.context())
    resumed: TrainerRoot = make_root(parameters=parameters)
    interruption = Interruption()
    at_step(4, interruption.request)
    with pytest.raises(Interrupted):
        train_role.run(resumed.context(interruption=interruption))
    train_role.run(resumed.context())
    assert resumed.losses() == whole.losses()
    assert resumed.evaluation(6).digest == whole.evaluation(6).digest
