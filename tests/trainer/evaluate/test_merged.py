"""Generation with an adapter merged into its base: the same answers, and the same weights afterwards."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from support.trainer_root import golden_cases
from tunegate_api.contract.request import GenerationSettings
from tunegate_api.messages import Message
from tunegate_trainer.evaluate.generate import generate
from tunegate_trainer.evaluate.merged import merged_adapter
from tunegate_trainer.models.loading import load_base
from tunegate_trainer.tokens.chat import load_tokenizer, render

SETTINGS = GenerationSettings(max_new_tokens=12, batch_size=8)


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return load_tokenizer(tiny_model)


@pytest.fixture(scope="module")
def prompts(tokenizer):
    return [render(tokenizer, [Message(role="user", content=case["prompt"])]) for case in golden_cases(8)]


def with_adapter(tiny_model, dtype="float32"):
    """Return a model with an adapter whose answers differ from those of the base."""
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


def adapter_calls(model):
    """Return a list that grows with every call of an adapter layer."""
    calls = []
    for name, module in model.named_modules():
        if name.endswith("lora_A.default"):
            module.register_forward_hook(lambda *_: calls.append(1))
    return calls


def test_merging_an_adapter_does_not_change_answers(tiny_model, tokenizer, prompts):
    model = with_adapter(tiny_model)
    unmerged = generate(model, tokenizer, prompts, SETTINGS)
    with model.disable_adapter():
        assert generate(model, tokenizer, prompts, SETTINGS) != unmerged
    calls = adapter_calls(model)
    with merged_adapter(model):
        assert generate(model, tokenizer, prompts, SETTINGS) == unmerged
    assert not calls
    assert generate(model, tokenizer, prompts, SETTINGS) == unmerged
    assert calls


def test_base_weights_are_restored_bit_for_bit_after_merging(tiny_model):
    model = with_adapter(tiny_model)
    before = {name: weight.data.clone() for name, weight in base_weights(model).items()}
    addresses = {name: weight.data_ptr() for name, weight in base_weights(model).items()}

    def fail_in_the_middle():
        with merged_adapter(model):
            assert any(not torch.equal(w, before[name]) for name, w in base_weights(model).items())
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail_in_the_middle()
    after = base_weights(model)
    assert before
    assert all(torch.equal(weight, before[name]) for name, weight in after.items())
    assert {name: weight.data_ptr() for name, weight in after.items()} == addresses


def test_adapter_on_a_bfloat16_base_is_not_merged(tiny_model):
    model = with_adapter(tiny_model, "bfloat16")
    before = {name: weight.data_ptr() for name, weight in base_weights(model).items()}
    with merged_adapter(model):
        assert {name: weight.data_ptr() for name, weight in base_weights(model).items()} == before


def test_disabled_adapter_is_not_merged(tiny_model, tokenizer, prompts):
    model = with_adapter(tiny_model)
    with model.disable_adapter():
        alone = generate(model, tokenizer, prompts, SETTINGS)
        with merged_adapter(model):
            assert generate(model, tokenizer, prompts, SETTINGS) == alone
