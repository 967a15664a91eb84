"""Liger's kernels for the norms and the gated MLPs of a model on a GPU.

A kernel computes in one pass over memory what a layer of transformers computes in several, and keeps fewer
activations for the backward pass. A layer uses a kernel only if its output on a few tokens stays the same.
"""

import logging
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from transformers.activations import ACT2FN

from tunegate_trainer.process.errors import is_out_of_memory

logger = logging.getLogger(__name__)

_TOKENS = 8
"""Number of tokens on which a kernel is compared with a layer."""
_ROUNDING = 8
"""How many times the rounding of a single number the mean output of a kernel may differ."""
_SILU = (torch.nn.SiLU, type(ACT2FN["silu"]))


class Kernels(NamedTuple):
    """The functions of ``liger_kernel.transformers.functional`` that are used."""

    rms_norm: Callable[..., torch.Tensor]
    """Takes the input, the weight, epsilon and ``in_place``."""
    swiglu: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    """Takes the gate before SiLU, and the values that it is multiplied with."""


def fuse_layers(model: Any) -> None:
    """Let the norms and the MLPs of a model on a GPU use the kernels, if Liger is installed. If a kernel
    cannot be used for a kind of layer, log why."""
    if model.device.type != "cuda" or find_spec("liger_kernel") is None:
        return
    functional = import_module("liger_kernel.transformers.functional")  # imports Triton, for a GPU only
    replace_layers(model, Kernels(functional.liger_rms_norm, functional.liger_swiglu))


def replace_layers(model: Any, kernels: Kernels) -> set[str]:
    """Let all layers use ``kernels`` whose output stays the same. Return the names of their classes."""
    usable: dict[type, bool] = {}
    with torch.no_grad():
        for layer in list(model.modules()):
            forward = _fused(layer, kernels)
            if forward is None:
                continue
            if type(layer) not in usable:
                usable[type(layer)] = _same_output(layer, forward)
            if usable[type(layer)]:
                layer.forward = forward
    return {kind.__name__ for kind, is_used in usable.items() if is_used}


def _fused(layer: Any, kernels: Kernels) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Return a forward function for a norm or an MLP that uses a kernel. Return None for other layers."""
    if type(layer).__name__.endswith("RMSNorm") and hasattr(layer, "variance_epsilon"):
        return partial(_rms_norm, layer, kernels)
    if type(getattr(layer, "act_fn", None)) in _SILU and hasattr(layer, "gate_proj"):
        return partial(_gated_mlp, layer, kernels)
    return None


def _rms_norm(layer: Any, kernels: Kernels, hidden_states: torch.Tensor) -> torch.Tensor:
    return kernels.rms_norm(hidden_states, layer.weight, layer.variance_epsilon, in_place=False)


def _gated_mlp(layer: Any, kernels: Kernels, hidden_states: torch.Tensor) -> torch.Tensor:
    gated = kernels.swiglu(layer.gate_proj(hidden_states), layer.up_proj(hidden_states))
    output: torch.Tensor = layer.down_proj(gated)
    return output


def _same_output(layer: Any, forward: Callable[[torch.Tensor], torch.Tensor]) -> bool:
    """Return whether ``forward`` computes the output of ``layer``. If not, log why."""
    size = layer.gate_proj.in_features if hasattr(layer, "gate_proj") else layer.weight.shape[-1]
    weight = next(layer.parameters())
    dtype = weight.dtype if weight.is_floating_point() else torch.bfloat16  # weights in 4 bits
    numbers = torch.arange(_TOKENS * size, dtype=torch.float32, device=weight.device)
    inputs = numbers.sin().view(1, _TOKENS, size).to(dtype)
    try:
        expected, found = layer(inputs), forward(inputs)
    except Exception as error:  # compilers of kernels raise many kinds of errors
        if is_out_of_memory(error):
            raise
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
    else:
        change = ((found - expected).abs().mean() / expected.abs().mean()).item()
        if change <= _ROUNDING * torch.finfo(dtype).eps:
            return True
        reason = f"the output changes by {change:.2g}"
    logger.warning("%s uses no fused kernel, which is slower: %s", type(layer).__name__, reason)
    return False
