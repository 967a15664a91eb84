"""Compute the prompts of a batch, before their answers are generated token by token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from tunegate_trainer.models.architecture import rope_switch
from tunegate_trainer.tokens.shared_prefix import common_prefix_length

_WORTH_SHARING = 64
"""Minimum number of tokens that sharing a prefix must save, because the prefix needs a forward pass of its
own."""
_ROWS_ON_CPU = 16
"""Maximum number of prompts in a forward pass on a CPU. A prompt is padded to the longest one of its pass, so
small passes of prompts that are sorted by length have little padding. In one pass, padding would add 24 % to
the tokens of the quickstart's 64 golden prompts; in passes of 16, it adds 5 %."""


@dataclass(frozen=True)
class Prefilled:
    """A batch of prompts after their forward passes, with one row per prompt."""

    logits: torch.Tensor
    """The logits of the first new token, shape [rows, vocabulary]."""
    cache: DynamicCache
    """The keys and values of the prompts. Padding is before the last token of a prompt."""
    mask: torch.Tensor
    """1 for each token in the cache and 0 for padding, shape [rows, width]."""


def prefill(causal_lm: Any, prompts: Sequence[list[int]], room: int) -> Prefilled:
    """Compute the prompts. ``room`` is the maximum number of tokens that will be added to each of them.

    A prefix that all prompts share is computed once. All prompts must be on one side of the model's
    :func:`~tunegate_trainer.models.architecture.rope_switch`.
    """
    prefix = DynamicCache(config=causal_lm.config)
    # Padding is before a prompt, or between the shared prefix and the rest of a prompt. A sliding window
    # counts padding, and a recurrent state includes it.
    is_plain = all(type(layer) is DynamicLayer for layer in prefix.layers)
    shared = min(common_prefix_length(prompts), min(map(len, prompts)) - 1)  # keeps a token of each
    switch = rope_switch(causal_lm.config)
    has_other_positions = switch is not None and shared <= switch < max(map(len, prompts))
    if not is_plain or has_other_positions or shared * (len(prompts) - 1) < _WORTH_SHARING:
        shared = 0
    if shared:
        _forward(causal_lm, torch.tensor([prompts[0][:shared]], device=causal_lm.device), prefix)
    if not is_plain or causal_lm.device.type != "cpu":
        return _one_pass(causal_lm, prompts, shared, prefix)
    passes = [
        _one_pass(causal_lm, prompts[start : start + _ROWS_ON_CPU], shared, prefix)
        for start in range(0, len(prompts), _ROWS_ON_CPU)
    ]
    return _joined(passes, room)


def _one_pass(causal_lm: Any, prompts: Sequence[list[int]], shared: int, prefix: DynamicCache) -> Prefilled:
    """Compute the prompts in one forward pass. ``prefix`` has their first ``shared`` tokens in one row."""
    cache, rows = DynamicCache(config=causal_lm.config), len(prompts)
    for number, (keys, values, *_) in enumerate(prefix if shared else ()):
        if keys is not None:  # a layer that shares the keys of another one has none
            cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), number)
    # Padded on the left, so that the last column has the last token of every prompt. Padding is masked.
    rest = [ids[shared:] for ids in prompts]
    width = max(len(ids) for ids in rest)
    tokens = [[0] * (width - len(ids)) + ids for ids in rest]
    is_token = [[1] * shared + [0] * (width - len(ids)) + [1] * len(ids) for ids in rest]
    mask = torch.tensor(is_token, device=causal_lm.device)
    logits = _forward(
        causal_lm,
        torch.tensor(tokens, device=causal_lm.device),
        cache,
        attention_mask=mask,
        position_ids=(mask.cumsum(-1) - 1).clamp(min=0)[:, shared:],
    )
    return Prefilled(logits, cache, mask)


def _forward(causal_lm: Any, tokens: torch.Tensor, cache: DynamicCache, **inputs: Any) -> torch.Tensor:
    """Add ``tokens``, shape [rows, width], to the cache, and return the logits after the last column."""
    outputs = causal_lm(input_ids=tokens, cache=cache, use_cache=True, logits_to_keep=1, **inputs)
    logits: torch.Tensor = outputs.logits[:, -1]
    return logits


def _joined(passes: Sequence[Prefilled], room: int) -> Prefilled:
    """Return the rows of all passes, padded on the left to the same width."""
    width = max(one.mask.shape[1] for one in passes)
    cache = passes[0].cache
    for number, layers in enumerate(zip(*(one.cache.layers for one in passes), strict=True)):
        if layers[0].is_initialized:
            cache.layers[number] = _RoomyLayer(layers, width, room)
            for layer in layers:
                layer.reset()  # frees its memory
    return Prefilled(
        logits=torch.cat([one.logits for one in passes]),
        cache=cache,
        mask=torch.cat([pad(one.mask, (width - one.mask.shape[1], 0)) for one in passes]),
    )


class _RoomyLayer(DynamicLayer):
    """Stores keys and values in buffers that have room for all new tokens. ``DynamicLayer`` would copy the
    whole cache for each new token."""

    def __init__(self, layers: Sequence[Any], width: int, room: int) -> None:
        """Join the rows of ``layers``, padded on the left to ``width`` tokens, with room for more tokens."""
        super().__init__()  # type: ignore[no-untyped-call] # transformers declares no types for it
        self.lazy_initialization(layers[0].keys, layers[0].values)
        self._buffers = [
            _right_aligned([getattr(layer, name) for layer in layers], width, room)
            for name in ("keys", "values")
        ]
        self._show(width)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        start = self.get_seq_length()
        end = start + key_states.shape[2]
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = states
        return self._show(end)

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        width = self.get_seq_length()
        room = self._buffers[0].shape[2] - width
        self._buffers = [
            _right_aligned([buffer[beam_idx, :, :width]], width, room) for buffer in self._buffers
        ]
        self._show(width)

    def _show(self, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Show the first ``width`` tokens of the buffers as the keys and values of this layer."""
        self.keys, self.values = (buffer[:, :, :width] for buffer in self._buffers)
        return self.keys, self.values


def _right_aligned(parts: Sequence[torch.Tensor], width: int, room: int) -> torch.Tensor:
    """Return a buffer for ``width + room`` tokens with the rows of all parts, of which the first ``width``
    tokens are set. Memory for the other tokens is used only when they are set."""
    heads, size = parts[0].shape[1], parts[0].shape[3]
    buffer = parts[0].new_empty(sum(map(len, parts)), heads, width + room, size)
    for rows, part in zip(torch.split(buffer, [len(part) for part in parts]), parts, strict=True):
        padding = width - part.shape[2]
        rows[:, :, :padding] = 0
        rows[:, :, padding:width] = part
    return buffer
