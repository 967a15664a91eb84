"""Sampled completions are different, come from the distribution of the model, and are bounded in number."""

from collections import Counter

import pytest
import torch

from support.tiny_model import END_OF_TURN
from tunegate_api.messages import Message
from tunegate_api.preference import PromptLine, SampleRequest
from tunegate_trainer.evaluate.sampling import ROUNDS, sample_completions
from tunegate_trainer.models.loading import load_base
from tunegate_trainer.tokens.chat import load_tokenizer, render

TEXTS = ("order a mug", "order a lamp and a chair", "thanks")


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return load_tokenizer(tiny_model)


@pytest.fixture
def model(tiny_model, tokenizer):
    """A random model that ends an answer after a few tokens."""
    model = load_base(tiny_model, "float32", torch.device("cpu"))
    end = tokenizer.convert_tokens_to_ids(END_OF_TURN)
    model.lm_head = torch.nn.Linear(64, len(tokenizer))
    with torch.no_grad():
        model.lm_head.weight.mul_(0.1)
        model.lm_head.bias.fill_(0)[end] = 4
    return model


def sample(model, tokenizer, texts=TEXTS, **changes):
    lines = [PromptLine(prompt=text) for text in texts]
    fields = {"completions": 4, "temperature": 1.0, "seed": 0, "max_new_tokens": 40, "batch_size": 8}
    request = SampleRequest(model="", prompts=lines, **(fields | changes))
    prompts = [render(tokenizer, [Message(role="user", content=text)]) for text in texts]
    return list(sample_completions(model, tokenizer, prompts, request))


def test_each_prompt_gets_different_completions_in_its_order(model, tokenizer):
    found = sample(model, tokenizer)
    assert [one.index for one in found] == [0, 1, 2]
    for one in found:
        assert len({" ".join(text.split()) for text in one.texts}) == len(one.texts) == 4
    assert len({text for one in found for text in one.texts}) == 12, "prompts do not share samples"


def test_seed_and_temperature_decide_the_samples(model, tokenizer):
    assert sample(model, tokenizer) == sample(model, tokenizer)
    assert sample(model, tokenizer) != sample(model, tokenizer, seed=1)
    assert sample(model, tokenizer) != sample(model, tokenizer, temperature=0.9)


def test_sampling_changes_no_random_state_and_no_mode(model, tokenizer):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    model.train()
    sample(model, tokenizer)
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)


def only(model, tokenizer, **logits):
    """Give tokens these logits in every position, ``end`` for the end of the turn, and all others none."""
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.bias.fill_(-50)
        for token, logit in logits.items():
            id = tokenizer.convert_tokens_to_ids(END_OF_TURN if token == "end" else token)
            model.lm_head.bias[id] = logit


def test_unusable_samples_are_replaced_a_limited_number_of_times(model, tokenizer):
    only(model, tokenizer, y=0, end=0)
    (one,) = sample(model, tokenizer, TEXTS[:1], max_new_tokens=2)
    assert one.texts == ["y"], "the only text that ends within two tokens"
    assert one.repeated > 0
    assert one.empty > 0
    assert one.cut > 0
    assert 1 + one.repeated + one.empty + one.cut <= 4 * ROUNDS


def test_samples_that_never_end_are_not_used(model, tokenizer):
    only(model, tokenizer, y=0, n=0)
    (one,) = sample(model, tokenizer, TEXTS[:1], max_new_tokens=2)
    assert (one.texts, one.cut) == ([], 4 * ROUNDS)


def test_samples_follow_the_distribution_of_the_model(model, tokenizer):
    """The first tokens of samples have the probabilities at the temperature."""
    only(model, tokenizer, y=2, n=0, end=0)
    first = Counter[str]()
    for seed in range(100):
        (one,) = sample(model, tokenizer, TEXTS[:1], seed=seed, completions=2, temperature=2.0)
        first.update(text[0] for text in one.texts[:1])
    share = first["y"] / first.total()
    expected = torch.tensor([2.0, 0.0]).div(2).softmax(0)[0].item()
    assert share == pytest.approx(expected, abs=0.1)
