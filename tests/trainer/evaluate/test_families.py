"""Greedy generation with each model family, compared with ``model.generate`` of transformers for each prompt
alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from support.each_family import each_trained_family
from support.eager_reference import eager_model, greedy_answer
from support.family import Family
from support.random_models import EXAMPLES, save_family
from support.trainer_root import stage_plan
from tunegate_api.contract.request import GenerationSettings
from tunegate_trainer.evaluate import generate as module
from tunegate_trainer.evaluate.generate import generate_tokens, greedy
from tunegate_trainer.models.architecture import separate_passes_reason
from tunegate_trainer.tokens.likelihood import computes_singly
from tunegate_trainer.train.start import Start, load_start

pytestmark = pytest.mark.model
NEW_TOKENS = 8
SHARED = [3 + 7 * i % 250 for i in range(70)]
PROMPTS = [
    [9, 8, 7],
    list(range(40, 68)),
    *(SHARED + [5 + 11 * i % 200 for i in range(length)] for length in (1, 7, 40)),
]
"""Two short prompts, and three that start with the same tokens."""


class Loaded(NamedTuple):
    model: Any
    expected: list[list[int]]
    """The tokens that plain transformers generates."""

    def answers(self, **settings: Any) -> list[list[int]]:
        """Return the tokens that Tunegate generates."""
        given = GenerationSettings(max_new_tokens=NEW_TOKENS, batch_size=3, **settings)
        found = generate_tokens(self.model, PROMPTS, given, stops=[_stop(self.model)], decoders=[greedy])
        return [found[i] for i in range(len(PROMPTS))]


@pytest.fixture(scope="session")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Family], Loaded]:
    """Return a function that loads a model as the train role does. Tests must not change it."""
    loaded: dict[str, Loaded] = {}

    def once(family: Family) -> Loaded:
        if family.id not in loaded:
            folder = tmp_path_factory.mktemp("family") / "model"
            loaded[family.id] = _load(save_family(folder, family))
        return loaded[family.id]

    return once


def _load(folder: Path) -> Loaded:
    start, parameters = Start(folder, "digest"), stage_plan("sft").parameters
    model = load_start(start, parameters, torch.device("cpu"), EXAMPLES).eval()
    plain = eager_model(folder)
    expected = [greedy_answer(plain, prompt, NEW_TOKENS, _stop(model)) for prompt in PROMPTS]
    assert max(len(set(answer)) for answer in expected) > 1, "otherwise many answers would be right"
    return Loaded(model, expected)


def _stop(model: Any) -> int:
    return int(model.generation_config.eos_token_id)


@each_trained_family
def test_greedy_answers_in_a_batch_equal_those_of_plain_transformers(load, family):
    assert load(family).answers() == load(family).expected


@each_trained_family
def test_continuous_batching_gives_the_answers_of_transformers(load, family, monkeypatch, caplog):
    """The check of the device is replaced, as if on a GPU."""
    monkeypatch.setattr(module, "_supports_continuous", lambda _model: True)
    assert load(family).answers(batching="Continuous") == load(family).expected
    assert ("continuous batching is not used" in caplog.text) is family.fixed


@each_trained_family
def test_configuration_shows_which_family_computes_examples_singly(load, family):
    model = load(family).model
    assert computes_singly(model) is family.singly
    assert (separate_passes_reason(model.config, on_gpu=False) is not None) is family.singly
