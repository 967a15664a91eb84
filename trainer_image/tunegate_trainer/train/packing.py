"""Check on training rows that faster ways to compute packed examples do not change a model's losses.

No example may influence another example in the same row. For a model that does not keep them apart, each
example is computed in a separate pass.

The rows are from the training data, because losses of unusual texts, such as control tokens, change much more
by rounding. ``rows`` are the token ids of :func:`probe_rows`.
"""

import logging
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, cycle, islice
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from trl.trainer.utils import add_fused_lm_head

from tunegate_trainer.models.architecture import attention_of, rope_switch, sees_all_before, windows_of
from tunegate_trainer.models.loading import is_sharded, no_gradients
from tunegate_trainer.process.errors import is_out_of_memory
from tunegate_trainer.tokens.examples import IGNORED, Example, ExamplePair, example
from tunegate_trainer.tokens.likelihood import flatten, fuse_head, token_losses
from tunegate_trainer.tokens.shared_prefix import share_prefixes
from tunegate_trainer.train.attention import BY_EXAMPLE, PACKED
from tunegate_trainer.train.head_error import head_fault
from tunegate_trainer.train.kernel_error import attention_fault
from tunegate_trainer.train.sharing_error import shared_tokens, sharing_fault

logger = logging.getLogger(__name__)

_TOKENS, _LONGEST = 16, 128
"""Number of tokens in each example of the checks that change an example, and the maximum number of tokens of
a row in the other checks."""
_ROWS_READ = 64
"""Maximum number of training rows that are read to find two different ones."""
_PACKED_LAYERS = {"full_attention", "sliding_attention"}
"""The kinds of layers whose attention can be computed without a mask."""
_OUTPUTS = ("log_probs", "entropy", "is_top1")
"""The outputs of the fused LM head. SFTTrainer adds the head with the same outputs, so the check covers the
head that training uses."""
_NOISE = 4
"""Tolerance of the check. If the next example changes, only noise can change an example's losses, because
tokens do not attend to later tokens. If the previous example changes, the losses may change by at most this
many times the noise, plus rounding."""


Rows = Sequence[list[int]]
"""The token ids of two training rows."""


def probe_rows(examples: Sequence[Example] | Sequence[ExamplePair]) -> Rows:
    """Return the last tokens of the first two training rows that differ in them.

    Equal rows could not show that one attends to the other, so the tokens of a single row are reversed.
    """
    first: Iterator[Example] = chain.from_iterable(
        each if isinstance(each, tuple) else (each,) for each in islice(examples, _ROWS_READ)
    )
    found = list(dict.fromkeys(tuple(one["input_ids"][-_LONGEST:]) for one in first))
    return [list(ids) for ids in [*found, found[0][::-1]][:2]]


def set_attention(model: Any, rows: Rows) -> None:
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
        try_packed_attention(model, rows)


def try_packed_attention(model: Any, rows: Rows) -> bool:
    """Set the attention ``PACKED``, and return whether it is as exact as the attention that the model has,
    see :mod:`tunegate_trainer.train.kernel_error`. If not, log why, and set the attention that the model had.

    The first layer of each window is compared. All other layers must use the same attention, and name their
    window to it.
    """
    before = model.config._attn_implementation
    try:
        with _state_preserved(model):
            reason = _attention_fault(model, _labelled(model, rows))
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0]
    model.set_attn_implementation(before if reason else PACKED)
    if reason:
        logger.warning("attention for packed examples is not used, which is slower: %s", reason)
    return not reason


def _attention_fault(model: Any, inputs: dict[str, Any]) -> str | None:
    """Return why the attention ``PACKED`` cannot be used, or None. Changes the model's attention."""
    before = model.config._attn_implementation
    used: list[tuple[Any, int | None]] = []

    def record(layer: Any, window: int | None) -> None:
        used.append((layer, window))

    model.set_attn_implementation(PACKED)
    token_losses(model.train(), dict(inputs))  # raises if attention has dropout
    model.eval()
    token_losses(model, {**inputs, "on_attention": record})  # a function, because FSDP would copy a list
    model.set_attn_implementation(before)
    if sorted(w or 0 for _, w in used) != sorted(w or 0 for w in windows_of(model.config)):
        return "not all layers use it and name the window in which a token attends to others"
    first = {window: layer for layer, window in reversed(used)}
    return attention_fault(list(first.values()), lambda: token_losses(model, dict(inputs)), PACKED)


def set_head(model: Any, rows: Rows, *, trains_head: bool) -> None:
    """Let the fused LM head of TRL compute the losses of large passes on a GPU. If it cannot, log why."""
    if model.device.type == "cuda" and not is_sharded(model):
        try_fused_head(model, rows, trains_head=trains_head)


def try_fused_head(model: Any, rows: Rows, *, trains_head: bool = True) -> bool:
    """Use TRL's fused LM head for large passes, and return whether it is as exact as the LM head that keeps
    all logits of a pass, see :mod:`tunegate_trainer.train.head_error`. If not, log why, and keep the logits.

    ``trains_head`` is whether the gradients of the LM head are needed too.
    """
    inputs = _labelled(model, rows)

    def losses(above: int) -> torch.Tensor:
        fuse_head(model, above)
        return token_losses(model, dict(inputs)).losses

    try:
        with _state_preserved(model):
            model.eval()
            add_fused_lm_head(model, outputs=_OUTPUTS)
            reason = head_fault(
                model, lambda: losses(sys.maxsize), lambda: losses(0), trains_head=trains_head
            )
    except Exception as error:  # compilers of kernels raise many kinds of errors
        if is_out_of_memory(error):
            raise
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
    if reason:
        fuse_head(model, above=sys.maxsize)
        logger.warning("the fused LM head is not used, logits are kept: %s", reason)
    else:
        fuse_head(model)
    return not reason


def isolates_examples(model: Any, rows: Rows) -> bool:
    """Return whether the losses of an example are independent of the example packed before it. If not, log
    why.

    Some architectures separate examples only by position ids, some need a library to separate them, and some
    cannot. The check computes a few passes with a few tokens, in the caller's precision. If the position
    embeddings depend on the length of the longest example, one pass has an example of this length: its
    positions start where the embeddings change.
    """
    first = rows[0][-_TOKENS:]
    other, switch = _changed(model, first), rope_switch(model.config)
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


def can_share(
    model: Any, rows: Rows, share: Callable[[dict[str, Any]], dict[str, Any]] = share_prefixes
) -> bool:
    """Return whether losses and gradients stay as exact if a shared prefix of two examples is computed only
    once, see :mod:`tunegate_trainer.train.sharing_error`.

    False for models with sliding windows, and for models with dropout, which is random for each example.
    ``share`` is the function that replaces shared prefixes in training.
    """
    is_packed = model.config._attn_implementation in (BY_EXAMPLE, PACKED)
    if not is_packed or not sees_all_before(model.config):
        return False
    prompt, answer = list(islice(cycle(rows[0]), 2 * _TOKENS)), rows[1][:_TOKENS]
    inputs = _on_device(model, [example(prompt, each) for each in (answer, _changed(model, answer))])
    try:
        shared = share(inputs)
        tokens = shared_tokens(inputs, shared)  # here, because autograd saves no tensors of inference mode
        with _state_preserved(model):
            if _is_random(model.train(), inputs):
                return False
            model.eval()
            reason = sharing_fault(
                model,
                lambda **more: token_losses(model, inputs | more),
                lambda: token_losses(model, dict(shared)),
                tokens,
            )
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
        if is_out_of_memory(error):
            raise
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
    if reason:
        logger.info("shared prefixes are not used: %s", reason)
    return not reason


def _is_random(model: Any, inputs: dict[str, Any]) -> bool:
    """Return whether a forward pass of ``model`` draws random numbers, as with dropout."""

    def state() -> torch.Tensor:
        on_gpu = model.device.type == "cuda"
        return torch.cuda.get_rng_state(model.device) if on_gpu else torch.get_rng_state()

    before = state()
    token_losses(model, dict(inputs))
    return not state().equal(before)


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
    inputs = _labelled(model, ids)
    length = len(ids[0])
    inputs["labels"][:, :length] = inputs["labels"][:, 2 * length :] = IGNORED
    inputs["position_ids"][:, :length] += far
    return token_losses(model, inputs).losses


def _changed(model: Any, ids: list[int]) -> list[int]:
    """Return as many token ids, each of which differs."""
    return [(i + 1) % model.config.get_text_config().vocab_size for i in ids]


def _labelled(model: Any, rows: Rows) -> dict[str, Any]:
    """Return a row of packed examples in which each token has a label, except the first of an example."""
    return _on_device(model, [Example(input_ids=ids, labels=[IGNORED, *ids[1:]]) for ids in rows])


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
