"""Measure how exact the fused LM head is: its error, and that of the LM head that keeps all logits.

Both compute losses of the same hidden states, and are compared with losses in float32, see
:mod:`tunegate_trainer.train.kernel_error`. In float32, logits are computed in tiles, so that no copy of a
large LM head is needed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from tunegate_trainer.train.kernel_error import Results, gradients_of, inexact_results

_TILE = 32_768
"""Number of vocabulary entries in a tile."""

Losses = Callable[[], torch.Tensor]
"""Computes the losses of training rows, of the shape (labelled tokens,)."""


def head_fault(model: Any, usual: Losses, fused: Losses, *, trains_head: bool) -> str | None:
    """Return why the losses ``fused`` are less exact than the losses ``usual``, or None if they are not.

    The gradients of the hidden states are compared too, and those of the LM head if ``trains_head``.
    """
    with torch.inference_mode(False), torch.enable_grad():
        exact = _results(model, usual, trains_head=trains_head, exact=True)
        results = (_results(model, losses, trains_head=trains_head) for losses in (usual, fused))
        return next(inexact_results("the LM head", exact, *results), None)


def _results(model: Any, compute: Losses, *, trains_head: bool, exact: bool = False) -> Results:
    """Return the losses and their gradients. If ``exact``, the LM head computes in float32."""
    head = model.get_output_embeddings()
    weight = head.weight.detach()
    weight = weight.float() if exact and trains_head else weight
    before = head.weight
    head.weight = torch.nn.Parameter(weight, requires_grad=trains_head)
    try:
        with _separate_hidden(model, exact=exact) as hidden, _in_float32(head) if exact else nullcontext():
            losses = compute()
            inputs = {"gradient of the input": hidden[0]}
            if trains_head:
                inputs["gradient of weight"] = head.weight
            found = {"losses": losses.detach(), **gradients_of(losses, inputs)}
    finally:
        head.weight = before
    return {what: value.float() for what, value in found.items()}


@contextmanager
def _separate_hidden(model: Any, *, exact: bool) -> Iterator[list[torch.Tensor]]:
    """Compute gradients only for the LM head within this block. Yield a list to which each pass adds the
    hidden states that the LM head reads."""
    found: list[torch.Tensor] = []

    def begin(*_: object) -> None:
        torch.set_grad_enabled(False)

    def end(_module: object, _arguments: object, output: Any) -> Any:
        torch.set_grad_enabled(True)
        hidden = output.last_hidden_state.detach().clone()
        found.append((hidden.float() if exact else hidden).requires_grad_())
        output.last_hidden_state = found[-1]
        return output

    hooks = [model.base_model.register_forward_pre_hook(begin), model.base_model.register_forward_hook(end)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _in_float32(head: torch.nn.Linear) -> Iterator[None]:
    """Let the LM head compute in float32 within this block, without a copy of its weights in float32."""

    def tile(hidden: torch.Tensor, start: int) -> torch.Tensor:
        rows = slice(start, start + _TILE)
        bias = None if head.bias is None else head.bias[rows].float()
        return linear(hidden, head.weight[rows].float(), bias)

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        tiles = (
            checkpoint(tile, hidden.float(), start, use_reentrant=False)
            for start in range(0, head.out_features, _TILE)
        )
        return torch.cat(list(tiles), dim=-1)

    setattr(head, "forward", forward)  # noqa: B010 - mypy refuses an assignment to a method
    try:
        with torch.autocast(head.weight.device.type, enabled=False):
            yield
    finally:
        delattr(head, "forward")
