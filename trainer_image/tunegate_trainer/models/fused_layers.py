"""Liger's kernels for the norms and the gated MLPs of a model on a GPU.

A kernel computes in one pass over memory what a layer of transformers computes in several, and keeps fewer
activations for the backward pass. A layer uses a kernel only if its code is that of Llama's layer, and if its
output and gradients on a few tokens stay the same.
"""

import logging
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from transformers.activations import ACT2FN
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from tunegate_trainer.process.errors import is_out_of_memory

logger = logging.getLogger(__name__)

_ROWS, _NARROW, _ROWS_IF_NARROW = 8, 256, 32_768
"""Number of rows on which a kernel is compared with a layer. For norms with at most ``_NARROW`` columns, as
those of attention heads, Liger has another kernel for ``_ROWS_IF_NARROW`` rows or more."""
_ROUNDING = 8
"""Tolerance for output and gradients: the mean difference divided by the mean magnitude, in multiples of the
data type's machine epsilon."""
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
    try:
        functional = import_module("liger_kernel.transformers.functional")  # imports Triton
    except Exception as error:  # also versions that do not fit together
        if is_out_of_memory(error):
            raise
        logger.warning("fused kernels are not used: %s", error)
        return
    replace_layers(model, Kernels(functional.liger_rms_norm, functional.liger_swiglu))


def replace_layers(model: Any, kernels: Kernels) -> set[str]:
    """Use a kernel in each layer that has one, if it does not change the layer's results. Return the names
    of the classes of these layers."""
    usable: dict[tuple[type, torch.Size], bool] = {}
    for layer in list(model.modules()):
        if is_norm(layer):
            forward, kind = partial(_norm, layer, kernels), (type(layer), layer.weight.shape)
        elif is_gated_mlp(layer):
            forward, kind = partial(_gated_mlp, layer, kernels), (type(layer), torch.Size())
        else:
            continue
        if kind not in usable:
            usable[kind] = _has_same_results(layer, forward)
        if usable[kind]:
            layer.forward = forward
    return {layer.__name__ for (layer, _), is_used in usable.items() if is_used}


def is_norm(layer: Any) -> bool:
    """Return whether a layer computes what Llama's norm computes."""
    return _has_code_of(layer, LlamaRMSNorm)


def is_gated_mlp(layer: Any) -> bool:
    """Return whether a layer computes what Llama's MLP with SiLU computes."""
    return _has_code_of(layer, LlamaMLP) and type(layer.act_fn) in _SILU


def _has_code_of(layer: Any, like: Any) -> bool:
    """Return whether the forward function of ``layer`` is that of the class ``like``, under any name.

    The code of a layer is repeated in transformers for each architecture. Layers that differ, for example by
    dropout or a limit for values, could have the same output on a few tokens.
    """
    code, other = getattr(type(layer).forward, "__code__", None), like.forward.__code__
    return code is not None and all(
        getattr(code, part) == getattr(other, part) for part in ("co_code", "co_names", "co_consts")
    )


def _norm(layer: Any, kernels: Kernels, hidden_states: torch.Tensor) -> torch.Tensor:
    return kernels.rms_norm(hidden_states, layer.weight, layer.variance_epsilon, in_place=False)


def _gated_mlp(layer: Any, kernels: Kernels, hidden_states: torch.Tensor) -> torch.Tensor:
    gated = kernels.swiglu(layer.gate_proj(hidden_states), layer.up_proj(hidden_states))
    output: torch.Tensor = layer.down_proj(gated)
    return output


def _has_same_results(layer: Any, forward: Callable[[torch.Tensor], torch.Tensor]) -> bool:
    """Return whether ``forward`` has the output of ``layer`` and the gradient of its input. If not, log
    why."""
    try:
        inputs = _example(layer)
        changes = [
            ((found - expected).abs().mean() / expected.abs().mean()).item()
            for expected, found in zip(_results(layer, inputs), _results(forward, inputs), strict=True)
        ]
    except Exception as error:  # compilers of kernels raise many kinds of errors
        if is_out_of_memory(error):
            raise
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
    else:
        most = _ROUNDING * torch.finfo(inputs.dtype).eps
        if all(change <= most for change in changes):  # not the maximum, because a number may be NaN
            return True
        reason = f"output and gradient change by {changes[0]:.2g} and {changes[1]:.2g}"
    logger.warning("%s uses no fused kernel: %s", type(layer).__name__, reason)
    return False


def _example(layer: Any) -> torch.Tensor:
    """Return an input for a layer, of shape (1, rows, columns)."""
    weight = next(layer.parameters())
    columns = weight.shape[-1] if is_norm(layer) else layer.gate_proj.in_features
    rows = _ROWS_IF_NARROW if is_norm(layer) and columns <= _NARROW else _ROWS
    dtype = weight.dtype if weight.is_floating_point() else torch.bfloat16  # weights in 4 bits
    numbers = torch.arange(rows * columns, dtype=torch.float32, device=weight.device)
    return numbers.sin().view(1, rows, columns).to(dtype)


def _results(
    forward: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the output, and the gradient of the input for some gradient of the output."""
    inputs = inputs.detach().requires_grad_()
    output = forward(inputs)
    (gradient,) = torch.autograd.grad(output, inputs, inputs.detach().roll(1, dims=-1).to(output.dtype))
    return output.detach(), gradient
