"""Attention for flattened passes: each example attends to itself and its shared prefix.

There is one implementation for CPUs, :func:`attend_by_example`, and one for GPUs, :func:`attend_packed`.
"""

from collections.abc import Callable, Sequence
from functools import cache
from inspect import signature
from itertools import pairwise
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

BY_EXAMPLE, PACKED = "sdpa_by_example", "sdpa_packed"
"""The names of the implementations for CPUs and for GPUs in transformers."""
_NOT_COMPUTED = ("dropout", "position_bias", "s_aux", "softcap")
"""Arguments of attention that :func:`attend_packed` does not support."""
_SHORT = 256
"""Maximum length in tokens of examples for which plain matrix products are faster than the blocked CPU
kernel. With nine heads of size 64 in bfloat16, forward and backward take 1.2 ms instead of 2.4 ms for 80
tokens, but 35 ms instead of 27 ms for 512."""
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
    """Compute ``sdpa`` for each of the concatenated examples, whose boundaries are ``cu_seq_lens_q``.

    On the whole row, sdpa would compute all pairs of tokens and mask the pairs from different examples: with
    eight examples, seven of eight pairs. On a CPU, that would be a third of the time of an optimizer step.
    Tensors have the shape (1, heads, tokens, head size). Without ``cu_seq_lens_q``, as in generation, this is
    plain ``sdpa``.

    For each segment of the row, ``shared_prefixes`` has the indices of the segments that are its prefix, see
    :mod:`tunegate_trainer.tokens.shared_prefix`. If there is a function ``on_attention``, it is called with
    the layer and its window.
    """
    boundaries = kwargs.get("cu_seq_lens_q")
    if boundaries is None:
        whole: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **kwargs
        )
        return whole
    if "on_attention" in kwargs:
        kwargs["on_attention"](module, kwargs.get("sliding_window"))
    edges = boundaries.tolist()
    sizes = [end - start for start, end in pairwise(edges)]
    prefixes = kwargs.pop("shared_prefixes", None)
    if prefixes:
        key, value = _with_exact_sums(key), _with_exact_sums(value)
    prefixes = prefixes or [()] * len(sizes)
    queries, keys, values = (torch.split(states, sizes, dim=2) for states in (query, key, value))
    with sdpa_kernel(_SHORT_KERNELS if kwargs["max_length_q"] <= _SHORT else _LONG_KERNELS):
        outputs = [
            sdpa_attention_forward(
                module,
                queries[i],
                _concatenated(keys, (*prefix, i), query.dtype),
                _concatenated(values, (*prefix, i), query.dtype),
                _mask(attention_mask, slice(*edges[i : i + 2]), sum(sizes[n] for n in prefix)),
                **kwargs,
            )[0]
            for i, prefix in enumerate(prefixes)
        ]
    return torch.cat(outputs, dim=1), None


def _with_exact_sums(states: torch.Tensor) -> torch.Tensor:
    """Return keys or values in float32, because several segments read those of a shared prefix. The backward
    pass adds up the gradients of these segments, and would round each sum in bfloat16."""
    return states.float()


def _concatenated(
    segments: Sequence[torch.Tensor], indices: Sequence[int], dtype: torch.dtype
) -> torch.Tensor:
    """Return the keys or values of a segment and its prefix."""
    one, *more = (segments[n] for n in indices)
    return (torch.cat([one, *more], dim=2) if more else one).to(dtype)


def _mask(whole: torch.Tensor | None, own: slice, shared: int) -> torch.Tensor | None:
    """Return the mask of a segment with ``shared`` prefix tokens: True where a token attends to a key.

    The mask of the whole row would hide the shared prefix, so a causal mask is built if there is a prefix.
    A causal mask is sufficient, because models with sliding windows do not share prefixes. Raises ValueError
    if the model adds numbers to the mask.
    """
    if not shared:
        return None if whole is None else whole[:, :, own, own]
    _refuse_bias(whole)
    size = own.stop - own.start
    return torch.ones(1, 1, size, shared + size, dtype=torch.bool).tril(shared)


def _refuse_bias(mask: torch.Tensor | None) -> None:
    """Raise ValueError if a mask is a sum of numbers, which may differ for each token."""
    if mask is not None and mask.is_floating_point():
        raise ValueError("attention has a mask of its own")


def attend_packed(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Compute the attention of all concatenated examples with one kernel for sequences of different lengths.

    On the whole row, sdpa would need a mask with an entry for each pair of tokens, and its kernels for masks
    are slower and repeat the keys and values for each query head. Arguments are those of
    :func:`attend_by_example`. ``shared_keys`` has the indices of the keys that all segments read, one segment
    after another; without it, each example reads its own keys.

    Raises ValueError for what the kernels do not compute, such as dropout, and RuntimeError for a device, a
    data type or a head size that they do not support.
    """
    boundaries = kwargs.get("cu_seq_lens_q")
    if boundaries is None:
        whole: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **kwargs
        )
        return whole
    for name in _NOT_COMPUTED:
        given = kwargs.get(name)
        if isinstance(given, torch.Tensor) or given:
            raise ValueError(f"attention has {name}")
    _refuse_bias(attention_mask)
    read, window = kwargs.get("shared_keys"), kwargs.get("sliding_window")
    if "on_attention" in kwargs:
        kwargs["on_attention"](module, window)
    if read is not None:
        key, value = (_with_exact_sums(states)[:, :, read] for states in (key, value))
    device = query.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query.dtype
    query, key, value = (states[0].transpose(0, 1).to(dtype) for states in (query, key, value))
    is_grouped = query.shape[1] != key.shape[1] and _takes_groups(varlen_attn)
    grouped: dict[str, Any] = {"enable_gqa": True} if is_grouped else {}
    output: Any = varlen_attn(
        query,
        key,
        value,
        boundaries,
        boundaries if read is None else kwargs["cu_seq_lens_k"],  # cuDNN needs the same object
        kwargs["max_length_q"],
        kwargs["max_length_k"],
        scale=kwargs.get("scaling"),
        window_size=(-1 if window is None else window - 1, 0),
        **grouped,
    )
    return output[None], None


@cache
def _takes_groups(kernel: Callable[..., Any]) -> bool:
    """Return whether ``kernel`` has the argument ``enable_gqa``, for grouped-query attention. In older
    versions of PyTorch, grouped queries need no argument."""
    return "enable_gqa" in signature(kernel).parameters


def _packed_mask(**arguments: Any) -> torch.Tensor | None:
    """Return None for packed examples, because :func:`attend_packed` needs no mask, else the mask of sdpa.

    transformers notices packed examples by their positions. It then never skips the mask, and asks for it
    without padding and without a mask function of the model.
    """
    is_packed = (
        arguments["batch_size"] == 1
        and arguments["attention_mask"] is None
        and arguments["q_offset"] == 0
        and not arguments["allow_is_causal_skip"]
        and not arguments["use_vmap"]
    )
    return None if is_packed else sdpa_mask(**arguments)


AttentionInterface.register(BY_EXAMPLE, attend_by_example)
AttentionMaskInterface.register(BY_EXAMPLE, sdpa_mask)
AttentionInterface.register(PACKED, attend_packed)
AttentionMaskInterface.register(PACKED, _packed_mask)
