"""Measure how exact shared prefixes are: the error of attention layers with them, and that without them.

All attention layers are compared with ``sdpa`` and with float32, both without shared prefixes, see
:mod:`tunegate_trainer.train.kernel_error`. So is the input of the first one. Other layers compute each token
alone.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch

from tunegate_trainer.models.architecture import windows_of
from tunegate_trainer.train.kernel_error import (
    USUAL,
    Call,
    Tokens,
    first_fault,
    inexact_results,
    layer_results,
)

Compute = Callable[..., object]
"""Runs a forward pass of a model on a row, with the given additional inputs."""


def sharing_fault(model: Any, apart: Compute, shared: Compute, tokens: Tokens) -> str | None:
    """Return why a row with shared prefixes is computed less exactly than one without them, or None.

    ``apart`` and ``shared`` compute the row without and with shared prefixes, and ``tokens`` compares them.
    """
    name = model.config._attn_implementation
    layers: list[Any] = []
    apart(on_attention=lambda layer, _window: layers.append(layer))
    if len(layers) != len(windows_of(model.config)):
        return "not all layers use this attention"
    with _recorded(layers) as calls:
        shared()

    def faults_of(layer: Any, call: Call) -> Iterator[str]:
        hidden = call.hidden[:, tokens.kept]
        if layer is layers[0] and not _is_close(calls[layer].hidden, hidden):
            yield f"the input of {type(layer).__name__} changes"
        exact = layer_results(layer, call, USUAL, exact=True, tokens=tokens)
        usual = layer_results(layer, call, USUAL, tokens=tokens)
        found = layer_results(layer, calls[layer].with_hidden(hidden), name)
        yield from inexact_results(type(layer).__name__, exact, usual, found)

    model.set_attn_implementation(USUAL)
    try:
        return first_fault(layers, apart, faults_of)
    finally:
        model.set_attn_implementation(name)


def _is_close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Return whether two inputs differ only by rounding."""
    change = (found - expected).abs().mean().item()
    return bool(change <= torch.finfo(expected.dtype).eps * expected.abs().mean().item())


@contextmanager
def _recorded(layers: list[Any]) -> Iterator[dict[Any, Call]]:
    """Record the last call of each of the ``layers`` within this block."""
    calls: dict[Any, Call] = {}

    def record(layer: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        calls[layer] = Call(arguments, named)

    hooks = [layer.register_forward_pre_hook(record, with_kwargs=True) for layer in layers]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def shared_tokens(apart: dict[str, Any], shared: dict[str, Any]) -> Tokens:
    """Return how the tokens of two examples are those of the row ``shared``, in which their prefix is only
    once. Raises KeyError if a token of the row ``apart`` is missing."""
    edges = apart["cu_seq_lens_q"].tolist()
    examples, positions = (shared[name][0].tolist() for name in ("seq_idx", "position_ids"))
    kept = [edges[example] + position for example, position in zip(examples, positions, strict=True)]
    known = {token: i for i, token in enumerate(kept)}
    into = [
        known[token if token in known else token - start]  # the prefix is that of the first example
        for start, end in pairwise(edges)
        for token in range(start, end)
    ]
    like = shared["input_ids"].new_tensor
    return Tokens(like(kept), like(into))
