"""Models whose position embeddings depend on the length of the longest text in a batch: longrope."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from support.eager_reference import completion_loss, eager_model, greedy_answer
from support.families import FAMILIES
from support.random_models import EXAMPLES, ROWS, save_family
from support.trainer_root import stage_plan
from tunegate_trainer.evaluate.generate import greedy
from tunegate_trainer.models.architecture import rope_switch
from tunegate_trainer.tokens.examples import Example, example
from tunegate_trainer.tokens.likelihood import flatten, log_probs, token_losses, with_shared_prefixes
from tunegate_trainer.train.packing import isolates_examples
from tunegate_trainer.train.start import Start, load_start

SWITCH = 32
FAMILY = next(family for family in FAMILIES if family.features == "longrope")
PROMPT = [3 + 7 * i % 250 for i in range(60)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_family(tmp_path / "model", FAMILY)


@pytest.fixture
def model(folder: Path) -> Any:
    return load_start(
        Start(folder, "digest"), stage_plan("sft", lora_dropout=0.0).parameters, torch.device("cpu"), EXAMPLES
    )


def of_lengths(*lengths: int) -> list[Example]:
    return [example(PROMPT[: length - 4], [9, 8, length, 7]) for length in lengths]


@contextmanager
def passes(model: Any) -> Iterator[list[list[int]]]:
    """Yield a list to which each forward pass adds the lengths of its examples, from their positions."""
    seen: list[list[int]] = []

    def watch(_module: Any, _arguments: Any, inputs: dict[str, Any]) -> None:
        positions = [*inputs["position_ids"].flatten().tolist(), -1]
        seen.append([last + 1 for last, following in pairwise(positions) if following != last + 1])

    watching = model.register_forward_pre_hook(watch, with_kwargs=True)
    try:
        yield seen
    finally:
        watching.remove()


def test_short_and_long_examples_in_a_batch_keep_losses(folder, model):
    assert rope_switch(model.config) == SWITCH
    examples = of_lengths(SWITCH + 8, SWITCH, 12, SWITCH + 1)
    with passes(model) as lengths, torch.no_grad():
        losses, numbers, _ = token_losses(model.eval(), flatten(examples))
    assert lengths == [[SWITCH, 12], [SWITCH + 8, SWITCH + 1]], "the sides are packed separately"
    sums = torch.zeros(4).index_add(0, numbers, losses).tolist()
    with torch.no_grad():
        alone = [completion_loss(eager_model(folder), one).item() for one in examples]
    assert sums == pytest.approx(alone, rel=1e-5)
    assert [-each for each in log_probs(model, examples)] == pytest.approx(alone, rel=1e-5)


def test_prefix_is_shared_only_on_one_side_of_the_switch(model):
    for lengths, is_shared in (((24, 28), True), ((40, 50), True), ((28, 40), False)):
        inputs = with_shared_prefixes(model, flatten(of_lengths(*lengths)))
        assert ("shared_prefixes" in inputs) is is_shared, lengths


def test_shared_prefix_of_long_examples_changes_no_losses(folder, model):
    examples = of_lengths(40, 50)
    with torch.no_grad():
        shared = token_losses(model.eval(), with_shared_prefixes(model, flatten(examples)))
        alone = [completion_loss(eager_model(folder), one).item() for one in examples]
    assert torch.zeros(2).index_add(0, shared.examples, shared.losses).tolist() == pytest.approx(
        alone, rel=1e-5
    )


def test_isolation_check_has_a_neighbor_beyond_the_switch(model):
    with passes(model) as lengths:
        assert isolates_examples(model, ROWS)
    assert any(max(each) > SWITCH for each in lengths)
    assert not any(min(each) <= SWITCH < max(each) for each in lengths)


def test_answers_on_both_switch_sides_equal_those_of_transformers(folder, model):
    """The second prompt has the length of the switch, and the answer to the third crosses it."""
    prompts = [PROMPT[:length] for length in (12, SWITCH, SWITCH - 3, SWITCH + 1, 50)]
    plain = eager_model(folder)
    expected = [greedy_answer(plain, prompt, 8, stop=2) for prompt in prompts]
    assert greedy(model.eval(), prompts, 8, [2]) == expected
    shared = [PROMPT + [5] * length for length in (1, 2, 3)]
    assert greedy(model, shared, 8, [2]) == [greedy_answer(plain, prompt, 8, stop=2) for prompt in shared]


def test_ended_row_does_not_move_its_batch_beyond_switch(folder, model):
    prompts = [PROMPT[: SWITCH - 3], *([9, 8, start] for start in range(20, 36))]
    plain = eager_model(folder)
    stop = greedy_answer(plain, prompts[0], 8, stop=2)[0]
    expected = [greedy_answer(plain, prompt, 8, stop) for prompt in prompts]
    assert [len(answer) for answer in expected] == [1, *[8] * 16], "the batch is not compacted"
    assert greedy(model.eval(), prompts, 8, [stop]) == expected
