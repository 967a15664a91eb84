"""An adapter inside the base's weights while answers are generated, where that changes none of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import Linear, LoraLayer


@contextmanager
def merged_adapter(model: Any) -> Iterator[None]:
    """Let the weights hold the adapter's update, and afterwards be what they were, bit for bit.

    A quarter of the time of an answer goes into the adapter's own small products. Only in float32: rounded to
    16 bits, or to 4, the sum would be another model than the one that is trained. Meanwhile it takes memory
    for a copy of the layers that have an adapter.
    """
    layers = _mergeable_layers(model)
    own = [layer.get_base_layer().weight.data for layer in layers]
    try:
        for layer, weight in zip(layers, own, strict=True):
            (adapter,) = layer.active_adapters
            layer.get_base_layer().weight.data = weight + layer.get_delta_weight(adapter).detach()
            layer.merged_adapters.append(adapter)
        yield
    finally:
        for layer, weight in zip(layers, own, strict=True):
            layer.get_base_layer().weight.data = weight
            layer.merged_adapters.clear()


def _mergeable_layers(model: Any) -> list[Any]:
    """The layers with an adapter, if each of them is a plain float32 one; else none."""
    if not isinstance(model, PeftModel):
        return []
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    return layers if all(map(_is_plain, layers)) else []


def _is_plain(layer: Any) -> bool:
    return (
        type(layer) is Linear
        and type(layer.get_base_layer()) is torch.nn.Linear
        and layer.get_base_layer().weight.dtype == torch.float32
        and not layer.disable_adapters
        and len(layer.active_adapters) == 1
    )
