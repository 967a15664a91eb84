"""Whether a model keeps packed examples apart: checked before training, for it decides what is learned."""

from typing import Any

import torch

from tunegate_trainer.errors import UserError
from tunegate_trainer.examples import IGNORED, Example
from tunegate_trainer.likelihood import flatten, token_losses
from tunegate_trainer.model import no_gradients

_TOKENS = 16
"""Of each example. Which tokens they are does not matter."""


def check_apart(model: Any) -> None:
    """Raise :class:`UserError` where an example's losses depend on the one that is packed before it.

    Architectures differ: some look at position ids alone, some at neither these nor boundaries, and some need
    a library for it. Two passes of a few tokens, in the precision that the caller computes in.
    """
    first = list(range(_TOKENS))
    try:
        with no_gradients(model):
            beside = [_losses(model, before) for before in (first, first[::-1])]
    except ValueError as error:  # what transformers says where it knows
        raise _mixed(model, str(error).strip().partition("\n")[0]) from error
    apart = (beside[0] - beside[1]).abs().mean().item()
    # Masked tokens have no weight at all; experts may round otherwise beside others.
    rounded = torch.finfo(torch.bfloat16 if model.device.type == "cuda" else model.dtype).eps ** 0.5
    if apart > rounded:
        raise _mixed(model, f"the loss of one changes by {apart:.2g} a token with the one before it")


def _losses(model: Any, before: list[int]) -> torch.Tensor:
    """Losses of an example, of shape (tokens - 1,), behind another one without labels."""
    ids = list(range(_TOKENS))
    packed = [
        Example(input_ids=before, labels=[IGNORED] * _TOKENS),
        Example(input_ids=ids, labels=[IGNORED, *ids[1:]]),
    ]
    inputs = {
        name: value.to(model.device) if isinstance(value, torch.Tensor) else value
        for name, value in flatten(packed).items()
    }
    training = model.training
    model.eval()
    losses = token_losses(model, inputs).losses
    model.train(training)
    return losses


def _mixed(model: Any, said: str) -> UserError:
    return UserError(
        f"model.uri: a {model.config.model_type} model does not keep examples of one pass apart here: {said}",
        "use a model of another architecture; where a library is named, add it to the trainer's image",
    )
