"""The prompts of a batch are computed with little padding, and the cache has room for their answers."""

import pytest
import torch

from tunegate_trainer.evaluate.generate import greedy
from tunegate_trainer.evaluate.prefill import prefill
from tunegate_trainer.models.loading import load_base


@pytest.fixture(scope="module")
def model(tiny_model):
    """A random model whose answers differ."""
    model = load_base(tiny_model, "float32", torch.device("cpu"))
    with torch.no_grad():
        torch.manual_seed(3)
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    return model


def prompts_of_lengths(*lengths: int, shared: int = 0) -> list[list[int]]:
    return [[*range(3, 3 + shared), *(60 + (7 * n + i) % 50 for i in range(n))] for n in lengths]


@pytest.mark.parametrize("shared", [0, 20])
def test_prompts_of_several_passes_are_answered_as_alone(model, shared):
    prompts = prompts_of_lengths(*range(40, 2, -1), shared=shared)
    alone = [greedy(model, [prompt], 6, [])[0] for prompt in prompts]
    assert len(set(map(tuple, alone))) > 1
    assert greedy(model, prompts, 6, []) == alone


def test_short_prompts_are_not_padded_to_the_longest_one(model, monkeypatch):
    computed = []
    forward = type(model).forward

    def counting(self, *, input_ids, **arguments):
        computed.append(input_ids.numel())
        return forward(self, input_ids=input_ids, **arguments)

    monkeypatch.setattr(type(model), "forward", counting)
    greedy(model, prompts_of_lengths(*[100] * 16, *[10] * 16), 1, [])
    assert sum(computed) == 16 * 100 + 16 * 10


def test_new_token_is_added_to_the_cache_without_copying_it(model):
    with torch.no_grad():
        batch = prefill(model, prompts_of_lengths(9, 5), room=2)
        layer = batch.cache.layers[0]
        before, width = layer.keys.data_ptr(), layer.get_seq_length()
        model(input_ids=torch.tensor([[4], [5]]), cache=batch.cache, use_cache=True)
    assert layer.get_seq_length() == width + 1
    assert layer.keys.data_ptr() == before


def test_answers_stay_the_same_when_prompts_leave_the_batch(model):
    prompts = prompts_of_lengths(*range(30, 6, -1))
    answers = greedy(model, prompts, 12, [])
    stop = answers[3][2]  # it ends at least one answer early
    ended = [answer[: answer.index(stop) + 1] if stop in answer else answer for answer in answers]
    assert ended != answers
    assert greedy(model, prompts, 12, [stop]) == ended


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_lowest_of_equally_likely_tokens_is_chosen(tiny_model, dtype):
    model = load_base(tiny_model, dtype, torch.device("cpu"))
    with torch.no_grad():
        model.lm_head.weight.zero_()
    assert greedy(model, prompts_of_lengths(4, 3), 1, []) == [[0], [0]]
