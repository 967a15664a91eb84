"""Measure how exact a faster way to compute a layer of a model is: its error, and that of the usual way.

The losses of a whole model do not show it, because each layer amplifies the rounding of earlier layers, see
docs/adr/0045-passes-on-a-gpu.md. So each layer is also computed in float32, from the same hidden states: this
is cheap for models of every size.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

Results = dict[str, torch.Tensor]
"""The output of a layer and gradients, in float32, by their names in messages."""
_MOST = 1.5
"""Maximum error of a faster way, in multiples of the error of the usual way in the same data type."""
_REFERENCE_ROUNDING = 32 * torch.finfo(torch.float32).eps
"""Error of the float32 reference itself, relative to the mean magnitude of its numbers."""
USUAL = "sdpa"


class Call(NamedTuple):
    """The arguments of one call of a layer."""

    arguments: tuple[Any, ...]
    named: dict[str, Any]

    @property
    def hidden(self) -> torch.Tensor:
        """The input of the layer, of the shape (1, tokens, hidden size)."""
        found: torch.Tensor = self.named.get("hidden_states", *self.arguments[:1])
        return found

    def with_hidden(self, hidden: torch.Tensor) -> "Call":
        """Return the call with another input."""
        if "hidden_states" in self.named:
            return self._replace(named={**self.named, "hidden_states": hidden})
        return self._replace(arguments=(hidden, *self.arguments[1:]))


class Tokens(NamedTuple):
    """How the tokens of a row are those of a shorter row, in which shared tokens are only once."""

    kept: torch.Tensor
    """For each token of the shorter row, its index in the row."""
    into: torch.Tensor
    """For each token of the row, its index in the shorter row."""


def attention_fault(layers: Sequence[Any], compute: Callable[[], object], name: str) -> str | None:
    """Return why the attention implementation ``name`` is less exact than ``sdpa`` in one of the attention
    ``layers`` of a model, or None if it is not.

    ``compute`` runs a forward pass of the model on training rows with ``sdpa``, whose arguments of the layers
    are used. The output of each layer, and the gradients of its input and of its matrices, may differ from
    float32 by at most ``_MOST`` times the difference of ``sdpa``. A layer is compared while the pass computes
    it, because the weights of a sharded model are complete only then.
    """

    def faults_of(layer: Any, call: Call) -> Iterator[str]:
        exact = layer_results(layer, call, USUAL, exact=True)
        usual, found = (layer_results(layer, call, each) for each in (USUAL, name))
        return inexact_results(type(layer).__name__, exact, usual, found)

    return first_fault(layers, compute, faults_of)


def first_fault(
    layers: Sequence[Any], compute: Callable[[], object], faults_of: Callable[[Any, Call], Iterator[str]]
) -> str | None:
    """Return the first fault of ``layers`` in the forward pass ``compute``, or None. ``faults_of`` compares a
    layer, and may compute gradients."""
    faults: list[str] = []
    hooks: dict[Any, Any] = {}

    def compare(layer: Any, arguments: tuple[Any, ...], named: dict[str, Any], _output: object) -> None:
        hooks[layer].remove()  # because the comparison calls the layer
        with torch.inference_mode(False), torch.enable_grad():
            faults.extend(faults_of(layer, Call(arguments, named)))

    hooks |= {layer: layer.register_forward_hook(compare, with_kwargs=True) for layer in layers}
    try:
        compute()
    finally:
        for hook in hooks.values():
            hook.remove()
    return faults[0] if faults else None


def inexact_results(layer: str, exact: Results, usual: Results, found: Results) -> Iterator[str]:
    """Yield which results of a faster way, ``found``, differ from those in float32, ``exact``, by more than
    ``_MOST`` times the difference of the usual way."""
    for what, reference in exact.items():
        error, most = ((each[what] - reference).abs().mean().item() for each in (found, usual))
        most = _MOST * most + _REFERENCE_ROUNDING * reference.abs().mean().item()
        if not error <= most:  # also if the error is NaN
            yield f"the {what} of {layer} has an error of {error:.2g}, at most {most:.2g}"


def gradients_of(output: torch.Tensor, inputs: Results) -> Results:
    """Return the gradients of ``inputs`` for some gradient of ``output``, the same in each call."""
    numbers = torch.arange(output.numel(), dtype=torch.float32, device=output.device).sin()
    direction = numbers.view_as(output).to(output.dtype)
    gradients = torch.autograd.grad(output, list(inputs.values()), direction, allow_unused=True)
    return {
        what: torch.zeros_like(value) if gradient is None else gradient
        for (what, value), gradient in zip(inputs.items(), gradients, strict=True)
    }


def layer_results(
    layer: Any, call: Call, name: str, *, exact: bool = False, tokens: Tokens | None = None
) -> Results:
    """Return the output of a layer with the attention ``name``, the gradient of its input, and those of its
    matrices, for some gradient of the output. If ``exact``, everything is computed in float32. With
    ``tokens``, the results are those that the shorter row must have."""

    def own(value: Any) -> Any:
        """Copy a tensor, because autograd cannot save tensors of inference mode."""
        if not isinstance(value, torch.Tensor):
            return value
        copied = value.detach().clone()
        return copied.float() if exact and copied.is_floating_point() else copied

    arguments, named = pytree.tree_map(own, (call.arguments, call.named))
    weights = {key: own(value) for key, value in layer.named_parameters() if value.is_floating_point()}
    hidden = Call(arguments, named).hidden
    matrices = {f"gradient of {key}": value for key, value in weights.items() if value.ndim == 2}
    inputs = {"gradient of the input": hidden, **matrices}
    for value in inputs.values():
        value.requires_grad_()
    with _attention(layer, name), _float32(layer) if exact else nullcontext():
        output = functional_call(layer, weights, arguments, named)
        output = output if isinstance(output, torch.Tensor) else output[0]
        output = output[:, tokens.kept] if tokens else output
        found = {"output": output.detach(), **gradients_of(output, inputs)}
    if tokens:
        of_input = found["gradient of the input"]
        joined = torch.zeros_like(of_input[:, tokens.kept])
        found["gradient of the input"] = joined.index_add(1, tokens.into, of_input)
    return {what: value.float() for what, value in found.items()}


@contextmanager
def _attention(layer: Any, name: str) -> Iterator[None]:
    before = layer.config._attn_implementation
    layer.config._attn_implementation = name
    try:
        yield
    finally:
        layer.config._attn_implementation = before


@contextmanager
def _float32(layer: Any) -> Iterator[None]:
    """Compute in float32 without fused kernels, also the products with weights in 4 bits."""
    device = next(layer.parameters()).device.type
    quantized = [(each, each.compute_dtype) for each in layer.modules() if hasattr(each, "compute_dtype")]
    try:
        for each, _ in quantized:
            each.compute_dtype = torch.float32
        with torch.autocast(device, enabled=False), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        for each, dtype in quantized:
            each.compute_dtype = dtype
