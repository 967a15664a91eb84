"""Token losses: their gradients at few labelled positions."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tunegate_trainer.tokens.likelihood import compute_singly, flatten, token_losses


@pytest.mark.parametrize("singly", [False, True])
@pytest.mark.parametrize("labelled", [1, 2, 11, 13])
def test_float32_gradient_equals_float64_gradient_with_a_large_vocabulary(labelled, singly):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49_152, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
    )
    model = LlamaForCausalLM(config).requires_grad_(False)
    with torch.no_grad():
        model.lm_head.weight.add_(0.05)  # all of one sign: rounding errors add up
    trained = model.model.norm.weight.requires_grad_(True)
    if singly:
        compute_singly(model)
    ids = list(range(100, 120))
    example = {"input_ids": ids, "labels": [-100] * (len(ids) - labelled) + ids[-labelled:]}

    def gradient() -> torch.Tensor:
        trained.grad = None
        token_losses(model, flatten([example])).losses.sum().backward()
        assert trained.grad is not None
        return trained.grad.double()

    found = gradient()
    model.double()
    trained = model.model.norm.weight
    exact = gradient()
    assert (found - exact).norm() <= 1e-5 * exact.norm()
