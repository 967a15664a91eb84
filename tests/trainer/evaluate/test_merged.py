"""Answers of an adapter: generated from merged weights where nothing changes by it, and without a trace."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from support.trainer_root import golden_cases
from tunegate_api.judging.golden import Message
from tunegate_api.v1alpha1.evalgate import Generation
from tunegate_trainer.evaluate.generate import generate
from tunegate_trainer.evaluate.merged import merged_adapter
from tunegate_trainer.models.loading import load_base
from tunegate_trainer.tokens.chat import load_tokenizer, render

SETTINGS = Generation(max_new_tokens=12, batch_size=8)


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return load_tokenizer(tiny_model)


@pytest.fixture(scope="module")
def prompts(tokenizer):
    return [render(tokenizer, [Message(role="user", content=case["prompt"])]) for case in golden_cases(8)]


def with_adapter(tiny_model, dtype="float32"):
    """An adapter that has learned something: its answers are not the base's."""
    torch.manual_seed(5)
    base = load_base(tiny_model, dtype, torch.device("cpu"))
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    return model


def base_weights(model):
    return {name: weight for name, weight in model.named_parameters() if "base_layer" in name}


def passes_of_the_adapter(model):
    """A list that grows with every product of the adapter's own."""
    passes = []
    for name, module in model.named_modules():
        if name.endswith("lora_A.default"):
            module.register_forward_hook(lambda *_: passes.append(1))
    return passes


def test_merged_weights_answer_as_the_adapter_beside_them(tiny_model, tokenizer, prompts):
    model = with_adapter(tiny_model)
    beside = generate(model, tokenizer, prompts, SETTINGS)
    with model.disable_adapter():
        assert generate(model, tokenizer, prompts, SETTINGS) != beside
    passes = passes_of_the_adapter(model)
    with merged_adapter(model):
        assert generate(model, tokenizer, prompts, SETTINGS) == beside
    assert not passes
    assert generate(model, tokenizer, prompts, SETTINGS) == beside
    assert passes


def test_the_base_is_bit_for_bit_what_it_was(tiny_model):
    model = with_adapter(tiny_model)
    before = {name: weight.data.clone() for name, weight in base_weights(model).items()}
    places = {name: weight.data_ptr() for name, weight in base_weights(model).items()}

    def fail_in_the_middle():
        with merged_adapter(model):
            assert any(not torch.equal(w, before[name]) for name, w in base_weights(model).items())
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail_in_the_middle()
    after = base_weights(model)
    assert before
    assert all(torch.equal(weight, before[name]) for name, weight in after.items())
    assert {name: weight.data_ptr() for name, weight in after.items()} == places


def test_a_base_in_16_bits_is_left_alone(tiny_model):
    model = with_adapter(tiny_model, "bfloat16")
    before = {name: weight.data_ptr() for name, weight in base_weights(model).items()}
    with merged_adapter(model):
        assert {name: weight.data_ptr() for name, weight in base_weights(model).items()} == before


def test_an_adapter_that_is_switched_off_stays_off(tiny_model, tokenizer, prompts):
    model = with_adapter(tiny_model)
    with model.disable_adapter():
        alone = generate(model, tokenizer, prompts, SETTINGS)
        with merged_adapter(model):
            assert generate(model, tokenizer, prompts, SETTINGS) == alone
