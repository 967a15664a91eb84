"""Whether a model keeps packed examples apart: checked before anything else is done with it. One that does
not gets each example in a pass of its own."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule

from tunegate_trainer.models.architecture import sees_all_before
from tunegate_trainer.models.loading import no_gradients
from tunegate_trainer.process.errors import is_out_of_memory
from tunegate_trainer.tokens.examples import IGNORED, Example, example
from tunegate_trainer.tokens.likelihood import flatten, token_losses
from tunegate_trainer.tokens.shared_prefix import share_prefixes
from tunegate_trainer.train.attention import BY_EXAMPLE

logger = logging.getLogger(__name__)

_TOKENS = 16
"""Of each example. Which tokens they are does not matter."""
_NOISE = 4
"""Times what an example behind changes, which nothing can see, is what one before may change."""


def keeps_apart(model: Any) -> bool:
    """Whether the losses of an example are the same whatever is packed before it. The log says why not.

    Architectures differ: some look at the numbers of positions alone, some at nothing that tells examples
    apart, and some need a library for it. Three passes of a few tokens, in the precision that the caller
    computes in.
    """
    first = [i % model.config.get_text_config().vocab_size for i in range(_TOKENS)]
    other = first[::-1]
    try:
        with _left_as_it_was(model):
            model.eval()
            losses, behind, before = (
                _losses(model, [left, first, right])
                for left, right in ((first, first), (first, other), (other, first))
            )
    except (
        ValueError,
        TypeError,
        IndexError,
        RuntimeError,
    ) as error:  # transformers says so, or it takes none
        if is_out_of_memory(error):
            raise
        return _mixed(model, str(error).strip().partition("\n")[0])
    # What is masked has no weight at all; experts may round otherwise beside others.
    changed, noise = ((each - losses).abs().mean().item() for each in (before, behind))
    if changed > _rounded(model) + _NOISE * noise:
        return _mixed(model, f"an example's loss changes by {changed:.2g} per token with the one before it")
    return True


def can_share(model: Any) -> bool:
    """Whether losses stay the same where what two examples begin with is computed once: not with windows, nor
    with dropout, which each example draws itself."""
    if model.config._attn_implementation != BY_EXAMPLE or not sees_all_before(model.config):
        return False
    same = [i % model.config.get_text_config().vocab_size for i in range(2 * _TOKENS)]
    inputs = flatten([example(same, end) for end in (same[:_TOKENS], same[_TOKENS - 1 :: -1])])
    with _left_as_it_was(model):
        model.train()
        apart = token_losses(model, dict(inputs)).losses
        try:
            shared = token_losses(model, share_prefixes(inputs)).losses
        except (RuntimeError, TypeError, ValueError) as error:
            logger.info("shared prefixes are not used: %s", error)
            return False
    return bool((apart - shared).abs().mean() <= _rounded(model))


@contextmanager
def _left_as_it_was(model: Any) -> Iterator[None]:
    """Passes in this block train nothing, and change neither the model's mode nor what is drawn later."""
    training = model.training
    try:
        with torch.random.fork_rng(devices=[]), no_gradients(model):
            yield
    finally:
        model.train(training)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()  # else the root stays whole, and takes no weights of a checkpoint


def _rounded(model: Any) -> float:
    """What the loss of a token may differ by where only the order of sums does."""
    computed = torch.bfloat16 if model.device.type == "cuda" else model.dtype
    return math.sqrt(torch.finfo(computed).eps)


def _losses(model: Any, ids: list[list[int]]) -> torch.Tensor:
    """Losses of the second of three packed examples, of shape (tokens - 1,)."""
    packed = [
        Example(input_ids=each, labels=[IGNORED, *each[1:]] if i == 1 else [IGNORED] * len(each))
        for i, each in enumerate(ids)
    ]
    inputs = {
        name: value.to(model.device) if isinstance(value, torch.Tensor) else value
        for name, value in flatten(packed).items()
    }
    return token_losses(model, inputs).losses


def _mixed(model: Any, said: str) -> bool:
    logger.warning(
        "a %s model does not keep packed examples apart here; each example gets its own pass, "
        "which is slower: %s",
        model.config.model_type,
        said,
    )
    return False
