"""Make a model worse by keeping only a share of what training changed in its weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors import safe_open


class NotComparableError(Exception):
    """The files of a whole model and of its base cannot be compared tensor by tensor."""


@contextmanager
def at_strength(model: Any, share: float, artifact: Path, base: Path) -> Iterator[None]:
    """Keep only ``share`` of the change that training made to the weights of ``model`` in this block. After
    the block, the weights are those of the artifact again, bit for bit.

    ``model`` is the loaded artifact: a ``peft.PeftModel`` with a LoRA adapter, or a whole model. The update
    of an adapter is scaled. The weights of a whole model become base + share · (artifact - base). They are
    read from the files of both models, one tensor at a time, so that no second model is in memory. No file is
    changed. Raises :class:`NotComparableError`.
    """
    if isinstance(model, PeftModel):
        with _scaled(model, share):
            yield
        return
    trained, start = _Weights(artifact), _Weights(base)
    _check_names(model, trained, start)
    try:
        _set_weights(
            model, lambda name: torch.lerp(start.read(name).float(), trained.read(name).float(), share)
        )
        yield
    finally:
        _set_weights(model, trained.read)


@contextmanager
def _scaled(model: PeftModel, share: float) -> Iterator[None]:
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    before = [dict(layer.scaling) for layer in layers]
    try:
        for layer, scaling in zip(layers, before, strict=True):
            layer.scaling.update({adapter: scale * share for adapter, scale in scaling.items()})
        yield
    finally:
        for layer, scaling in zip(layers, before, strict=True):
            layer.scaling.update(scaling)


class _Weights:
    """The tensors in the safetensors files of a folder, by name. They are read when they are needed."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, Any] = {}
        for path in sorted(folder.glob("*.safetensors")):
            file: Any = safe_open(path, framework="pt")
            self._files |= dict.fromkeys(file.keys(), file)

    def shape(self, name: str) -> list[int] | None:
        """Return the shape of a tensor; None if there is none with this name."""
        found = self._files.get(name)
        return list(found.get_slice(name).get_shape()) if found else None

    def read(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._files[name].get_tensor(name)
        return tensor


def _check_names(model: Any, *weights: _Weights) -> None:
    """Raise :class:`NotComparableError` unless each parameter of ``model`` is a tensor in all files. For some
    architectures, tensors have other names in files."""
    for name, parameter in model.named_parameters():
        if any(each.shape(name) != list(parameter.shape) for each in weights):
            raise NotComparableError(
                f"the files of the model, or of its base, have no tensor {name} of the same shape"
            )


def _set_weights(model: Any, read: Callable[[str], torch.Tensor]) -> None:
    """Replace the weights of ``model`` one by one. Tied weights are replaced once."""
    for name, parameter in model.named_parameters():
        parameter.data = read(name).to(device=parameter.device, dtype=parameter.dtype)
