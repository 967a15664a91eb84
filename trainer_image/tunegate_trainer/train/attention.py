"""Attention for flattened micro-batches on a CPU: each example by itself, and behind what it shares."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

BY_EXAMPLE = "sdpa_by_example"
"""The name of this attention implementation in transformers."""
_SHORT = 256
"""Tokens of an example up to which plain matrix products are faster than the blocked CPU kernel. Forward
and backward with nine heads of 64 in bfloat16: 80 tokens take 1.2 ms instead of 2.4, 512 take 35 for 27."""
_SHORT_KERNELS = [SDPBackend.MATH]
_LONG_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]


def attend_by_example(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """``sdpa`` on each of the concatenated examples that ``cu_seq_lens_q`` tells apart.

    On the whole row, sdpa computes all pairs of tokens and masks those of two examples: with eight examples
    seven in eight, a third of a training step on a CPU. Shapes: (1, heads, tokens, head size). Without
    ``cu_seq_lens_q``, in generation, it is ``sdpa`` itself.

    ``beginnings`` has for each part of the row the edges of the parts before it that it goes on from, see
    :mod:`tunegate_trainer.beginnings`.
    """
    boundaries = kwargs.get("cu_seq_lens_q")
    if boundaries is None:
        whole: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **kwargs
        )
        return whole
    edges = boundaries.tolist()
    beginnings = kwargs.pop("beginnings", None) or [()] * (len(edges) - 1)
    with sdpa_kernel(_SHORT_KERNELS if kwargs["max_length_q"] <= _SHORT else _LONG_KERNELS):
        outputs = [
            sdpa_attention_forward(
                module,
                query[:, :, start:end],
                _joined(key, before, start, end),
                _joined(value, before, start, end),
                _mask(attention_mask, before, start, end),
                **kwargs,
            )[0]
            for before, (start, end) in zip(beginnings, pairwise(edges), strict=True)
        ]
    return torch.cat(outputs, dim=1), None


def _joined(states: torch.Tensor, before: Sequence[tuple[int, int]], start: int, end: int) -> torch.Tensor:
    """Keys or values of a part, behind those that it goes on from."""
    if not before:
        return states[:, :, start:end]
    return torch.cat([states[:, :, first:last] for first, last in (*before, (start, end))], dim=2)


def _mask(
    whole: torch.Tensor | None, before: Sequence[tuple[int, int]], start: int, end: int
) -> torch.Tensor | None:
    """Which keys a part's tokens see: all that it goes on from, and its own up to themselves."""
    own = None if whole is None else whole[:, :, start:end, start:end]
    shared = sum(last - first for first, last in before)
    if not shared:
        return own
    size = end - start
    if own is None:
        own = torch.ones(1, 1, size, size, dtype=torch.bool).tril()
    seen = own.new_ones if own.dtype == torch.bool else own.new_zeros
    return torch.cat([seen((*own.shape[:3], shared)), own], dim=-1)


AttentionInterface.register(BY_EXAMPLE, attend_by_example)
AttentionMaskInterface.register(BY_EXAMPLE, sdpa_mask)
