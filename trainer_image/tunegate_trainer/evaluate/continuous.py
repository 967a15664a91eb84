"""Greedy generation with the continuous batching of transformers: a finished prompt is replaced by a new one
at once."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import Any

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig

from tunegate_trainer.process.errors import is_out_of_memory

logger = logging.getLogger(__name__)

_PAGE = 64
"""Tokens per cache page. Answers in a gate are short, so pages of transformers' default size, 256, would be
mostly empty."""
_PREFILL = 1024
"""Maximum number of tokens in a forward pass, summed over all prompts. Longer prompts take several passes.
The limit saves memory, because the attention mask has one row per token."""


_FLAG = "continuous_batching_failed"


def try_continuous(
    model: Any, prompts: list[list[int]], max_new_tokens: int, stops: list[int], at_once: int
) -> list[list[int]] | None:
    """Return the result of :func:`continuous`, or None if transformers cannot compute it with this model, for
    example because its layers are recurrent. The reason is logged once, and the model is not tried again.

    Raises :class:`torch.OutOfMemoryError` if the generation does not fit the GPU.
    """
    if getattr(model, _FLAG, False):
        return None
    try:
        return continuous(model, prompts, max_new_tokens, stops, at_once)
    except Exception as error:  # unsupported models fail in many places
        if is_out_of_memory(error):
            raise
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
    setattr(model, _FLAG, True)
    logger.warning("continuous batching is not used, fixed batches are: %s", reason)
    return None


def continuous(
    model: Any, prompts: list[list[int]], max_new_tokens: int, stops: list[int], at_once: int
) -> list[list[int]]:
    """Return the new token ids for each prompt, up to and including the first stop token.

    At most ``at_once`` prompts are in the batch. The cache has room for the ``at_once`` longest prompts and
    their answers; by default, transformers would use all free memory. Raises :class:`torch.OutOfMemoryError`
    if the generation does not fit the GPU, and :class:`RuntimeError` if a prompt has no answer for another
    reason.
    """
    if not prompts:
        return []
    causal_lm = model.get_base_model() if hasattr(model, "get_base_model") else model
    pages = sorted(ceil((len(ids) + max_new_tokens) / _PAGE) + 1 for ids in prompts)
    make: Any = GenerationConfig
    generation = make(
        max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=stops, pad_token_id=stops[0]
    )
    batching = ContinuousBatchingConfig(
        page_size=_PAGE,
        num_blocks=sum(pages[-at_once:]),
        max_batch_tokens=max(_PREFILL, at_once),
        max_requests_per_batch=at_once,
        auto_switch_to_flash=causal_lm.dtype in {torch.bfloat16, torch.float16},
        seed=0,
    )
    try:
        with _known_attention(causal_lm):
            found = causal_lm.generate_batch(
                prompts, generation_config=generation, continuous_batching_config=batching
            )
    except MemoryError as error:  # raised if the cache does not fit the GPU
        raise torch.OutOfMemoryError(str(error)) from error
    errors = {one.error for one in found.values() if one.error}
    if any("out of memory" in error for error in errors):
        raise torch.OutOfMemoryError("; ".join(errors))
    if errors or len(found) < len(prompts):
        unanswered = len(prompts) - len(found)
        raise RuntimeError(f"continuous batching: {unanswered} prompts without an answer; errors: {errors}")
    return [one.generated_tokens for one in found.values()]


@contextmanager
def _known_attention(model: Any) -> Iterator[None]:
    """Set ``sdpa`` within this block instead of an implementation that is based on it, because continuous
    batching knows only the implementations of transformers."""
    before = model.config._attn_implementation
    model.set_attn_implementation("sdpa" if before.startswith("sdpa") else before)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
