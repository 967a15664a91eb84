"""Find the routed experts of a mixture of experts, and name the layers that compute every token.

transformers stores the weights of a layer's experts in tensors of three dimensions, not in linear layers.
"""

import re
from collections.abc import Collection, Iterable

from torch import nn
from torch.nn.modules.conv import _ConvNd
from transformers.pytorch_utils import Conv1D

_EXPERTS = "experts"
_ROUTER = re.compile(r"(.+_)?(gate|router)")
"""Matches the names of modules that choose experts, or weigh them."""


def stacked_experts(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the tensors of ``module`` itself that have a matrix for each expert."""
    if isinstance(module, _ConvNd):
        return {}
    return {name: one for name, one in module.named_parameters(recurse=False) if one.dim() == 3}


def mixture_blocks(model: nn.Module) -> set[str]:
    """Return the paths of the modules that contain routed experts, and usually a router and shared experts.
    Empty if the model is not a mixture of experts."""
    paths = (key.rpartition(".") for key, _ in model.named_modules())
    return {parent for parent, _, name in paths if name == _EXPERTS}


def computes_every_token(blocks: Collection[str], key: str) -> bool:
    """Return whether the module at the path ``key`` is neither an expert nor a part of a router. ``blocks``
    are the :func:`mixture_blocks` of the model."""
    parts = key.split(".")
    for i in range(len(parts)):
        if ".".join(parts[:i]) in blocks:
            return parts[i] != _EXPERTS and not any(map(_ROUTER.fullmatch, parts[i:]))
    return True


def default_layers(language_model: nn.Module, head: nn.Module | None) -> list[str]:
    """Return names for the linear layers of ``language_model`` that compute every token: attention, shared
    experts and dense MLPs. They are the names that ``all-linear`` means for a mixture of experts."""
    blocks, paths = mixture_blocks(language_model), dict(language_model.named_modules())
    wanted = [
        key
        for key, module in paths.items()
        if isinstance(module, (nn.Linear, Conv1D)) and module is not head
        if computes_every_token(blocks, key)
    ]
    return shortest_names(wanted, paths.keys() - {*wanted})


def shortest_names(wanted: Iterable[str], others: Iterable[str]) -> list[str]:
    """Return the shortest ends of the ``wanted`` paths that are not the end of one of the ``others``."""
    taken = {ending for path in others for ending in _endings(path)}
    return sorted(
        {next((ending for ending in _endings(path) if ending not in taken), path) for path in wanted}
    )


def _endings(path: str) -> list[str]:
    """Return all ends of a path, the shortest first."""
    parts = path.split(".")
    return [".".join(parts[i:]) for i in range(len(parts) - 1, -1, -1)]
