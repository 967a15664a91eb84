"""Check that faster ways to compute packed examples do not change a model's losses.

No example may influence another example in the same row. For a model that does not keep them apart, each
example is computed in a separate pass.
"""

import logging
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from trl.trainer.utils import add_fused_lm_head

from tunegate_trainer.models.architecture import attention_of, rope_switch, sees_all_before, windows_of
from tunegate_trainer.models.loading import is_sharded, no_gradients
from tunegate_trainer.process.errors import is_out_of_memory
from tunegate_trainer.tokens.examples import IGNORED, Example, example
from tunegate_trainer.tokens.likelihood import flatten, fuse_head, token_losses
from tunegate_trainer.tokens.shared_prefix import share_prefixes
from tunegate_trainer.train.attention import BY_EXAMPLE, PACKED

logger = logging.getLogger(__name__)

_TOKENS = 16
"""Number of tokens in each example of the check."""
_PACKED_LAYERS = {"full_attention", "sliding_attention"}
"""The kinds of layers whose attention can be computed without a mask."""
_OUTPUTS = ("log_probs", "entropy", "is_top1")
"""The outputs of the fused LM head. SFTTrainer adds the head with the same outputs, so the check covers the
head that training uses."""
_NOISE = 4
"""Tolerance of the check. If the next example changes, only noise can change an example's losses, because
tokens do not attend to later tokens. If the previous example changes, the losses may change by at most this
many times the noise, plus rounding."""


def set_attention(model: Any) -> None:
    """Set the fastest attention for packed examples that the architecture supports on the model's device. If
    the attention ``PACKED`` cannot be used on a GPU, log why, and keep ``sdpa``."""
    if attention_of(model.config) != "sdpa":
        return
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    if not kinds <= _PACKED_LAYERS:  # sparse attention knows only the implementations of transformers
        return
    if model.device.type == "cpu":
        model.set_attn_implementation(BY_EXAMPLE)
    else:
        try_packed_attention(model)


def try_packed_attention(model: Any) -> bool:
    """Set the attention ``PACKED``, and return whether the losses of two short examples stay the same, and
    each layer names its window to the attention. If not, log why, and set the attention that the model
    had."""
    before = model.config._attn_implementation
    inputs = _two_examples(model)
    windows: list[int | None] = []
    try:
        with _state_preserved(model):
            model.eval()
            expected = token_losses(model, dict(inputs)).losses
            model.set_attn_implementation(PACKED)
            found = token_losses(model, {**inputs, "windows": windows}).losses
            model.train()
            token_losses(model, dict(inputs))  # raises if attention has dropout
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0]
    else:
        change = (found - expected).abs().mean().item()
        if change > _rounding_tolerance(model):
            reason = f"the losses change by {change:.2g} per token"
        elif sorted(filter(None, windows)) != sorted(windows_of(model.config)):
            reason = "not all layers name the window in which a token attends to others"
        else:
            return True
    model.set_attn_implementation(before)
    logger.warning("attention for packed examples is not used, which is slower: %s", reason)
    return False


def set_head(model: Any) -> None:
    """Let the fused LM head of TRL compute the losses of large passes on a GPU. If it cannot, log why."""
    if model.device.type == "cuda" and not is_sharded(model):
        try_fused_head(model)


def try_fused_head(model: Any) -> bool:
    """Use TRL's fused LM head for large passes, and return whether the losses of two short examples stay the
    same. If not, log why, and keep all logits of a pass."""
    inputs = _two_examples(model)
    try:
        with _state_preserved(model):
            expected = token_losses(model.eval(), dict(inputs)).losses
            add_fused_lm_head(model, outputs=_OUTPUTS)
            fuse_head(model, above=0)
            found = token_losses(model, dict(inputs)).losses
        change = (found - expected).abs().mean().item()
        if change <= _rounding_tolerance(model):
            fuse_head(model)
            return True
        reason = f"the losses change by {change:.2g} per token"
    except Exception as error:  # compilers of kernels raise many kinds of errors
        if is_out_of_memory(error):
            raise
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
    fuse_head(model, above=sys.maxsize)
    logger.warning("the fused LM head is not used, logits are kept: %s", reason)
    return False


def isolates_examples(model: Any) -> bool:
    """Return whether the losses of an example are independent of the example packed before it. If not, log
    why.

    Some architectures separate examples only by position ids, some need a library to separate them, and some
    cannot. The check computes a few passes with a few tokens, in the caller's precision. If the position
    embeddings depend on the length of the longest example, one pass has an example of this length: its
    positions start where the embeddings change.
    """
    first = [i % model.config.get_text_config().vocab_size for i in range(_TOKENS)]
    other, switch = first[::-1], rope_switch(model.config)
    try:
        with _state_preserved(model):
            model.eval()
            losses, after, *before = (
                _losses(model, [left, first, right], far)
                for left, right, far in (
                    (first, first, 0),
                    (first, other, 0),
                    (other, first, 0),
                    *([(other, first, switch)] if switch else []),
                )
            )
    except (
        ValueError,
        TypeError,
        IndexError,
        RuntimeError,
    ) as error:  # the model or transformers rejects packed inputs
        if is_out_of_memory(error):
            raise
        return _not_isolated(model, str(error).strip().partition("\n")[0])
    # Masked tokens have exactly no weight, but experts may round differently with other tokens in the batch.
    changed = max((each - losses).abs().mean().item() for each in before)
    noise = (after - losses).abs().mean().item()
    if changed > _rounding_tolerance(model) + _NOISE * noise:
        return _not_isolated(
            model, f"an example's loss changes by {changed:.2g} per token with the one before it"
        )
    return True


def can_share(model: Any, share: Callable[[dict[str, Any]], dict[str, Any]] = share_prefixes) -> bool:
    """Return whether the losses stay the same if a shared prefix of two examples is computed only once.

    False for models with sliding windows, and for models with dropout, which is random for each example.
    ``share`` is the function that replaces shared prefixes in training.
    """
    is_packed = model.config._attn_implementation in (BY_EXAMPLE, PACKED)
    if not is_packed or not sees_all_before(model.config):
        return False
    inputs = _two_examples(model)
    with _state_preserved(model):
        model.train()
        apart = token_losses(model, dict(inputs)).losses
        try:
            shared = token_losses(model, share(inputs)).losses
        except (RuntimeError, TypeError, ValueError) as error:
            logger.info("shared prefixes are not used: %s", error)
            return False
    return bool((apart - shared).abs().mean() <= _rounding_tolerance(model))


@contextmanager
def _state_preserved(model: Any) -> Iterator[None]:
    """Run this block without gradients, and restore the model's training mode and random state afterwards."""
    training = model.training
    try:
        with torch.random.fork_rng(devices=[]), no_gradients(model):
            yield
    finally:
        model.train(training)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()  # otherwise the root stays unsharded, and a checkpoint cannot be loaded


def _rounding_tolerance(model: Any) -> float:
    """Return the difference in a token's loss that rounding may cause if only the order of sums differs."""
    computed = torch.bfloat16 if model.device.type == "cuda" else model.dtype
    return math.sqrt(torch.finfo(computed).eps)


def _losses(model: Any, ids: list[list[int]], far: int) -> torch.Tensor:
    """Return the losses of the second of three packed examples, of shape (tokens - 1,). ``far`` is the
    position of the first example's first token."""
    packed = [
        Example(input_ids=each, labels=[IGNORED, *each[1:]] if i == 1 else [IGNORED] * len(each))
        for i, each in enumerate(ids)
    ]
    inputs = _on_device(model, packed)
    inputs["position_ids"][:, :_TOKENS] += far
    return token_losses(model, inputs).losses


def _two_examples(model: Any) -> dict[str, Any]:
    """Return a row of two examples with the same prompt."""
    same = [i % model.config.get_text_config().vocab_size for i in range(2 * _TOKENS)]
    return _on_device(model, [example(same, end) for end in (same[:_TOKENS], same[_TOKENS - 1 :: -1])])


def _on_device(model: Any, examples: Sequence[Example]) -> dict[str, Any]:
    return {
        name: value.to(model.device) if isinstance(value, torch.Tensor) else value
        for name, value in flatten(examples).items()
    }


def _not_isolated(model: Any, reason: str) -> bool:
    logger.warning(
        "the %s model does not keep packed examples apart on this device, so each example is computed in a "
        "separate pass, which is slower: %s",
        model.config.model_type,
        reason,
    )
    return False
