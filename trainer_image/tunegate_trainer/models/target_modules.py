"""Check ``adapter.targetModules``, the layers that get an adapter, before training.

PEFT itself would report an error only if the model has none of the names.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tunegate_api.contract.plan import StagePlan
from tunegate_api.v1alpha2.stages import Stage
from tunegate_trainer.models.architecture import auto_class
from tunegate_trainer.models.mixtures import computes_every_token, mixture_blocks, stacked_experts
from tunegate_trainer.process.errors import UserError

ALL_LINEAR = "all-linear"
_ADAPTABLE = (nn.Linear, Conv1D, nn.Embedding)
"""Types of layers that LoRA supports."""
_MAMBA_TYPES, _MAMBA_LAYERS = {"falcon_h1", "nemotron_h"}, {"out_proj", "conv1d"}
"""Models, and the names of their layers that PEFT refuses, because the kernels of Mamba read the weights of
these layers instead of calling them."""


def check_target_modules(folder: Path, stages: Sequence[Stage]) -> None:
    """Raise :class:`UserError` for names in ``adapter.targetModules`` that cannot work with this model, or if
    ``all-linear``, the default, includes layers that LoRA does not support.

    Only the configuration of the model in ``folder`` is read.
    """
    targets = {
        stage.name: stage.adapter.target_modules or [ALL_LINEAR]
        for stage in stages
        if stage.adapter and stage.adapter.from_ is None
    }
    if not targets:
        return
    model = skeleton(folder)
    layers = ", ".join(layer_names(model))
    for stage, names in targets.items():
        if names == [ALL_LINEAR]:
            unfit = _unfit_layers(model)
            if unfit:
                raise UserError(
                    f"stage {stage}: adapter.targetModules: {ALL_LINEAR} includes {', '.join(unfit)}, which "
                    "LoRA does not support",
                    f"name the layers that get an adapter; the model's layers are: {layers}",
                )
            continue
        problems = [problem for name in names if (problem := _problem(model, name))]
        if problems:
            raise UserError(
                f"stage {stage}: adapter.targetModules: {'; '.join(problems)}",
                f"the model's layers are: {layers}; use {ALL_LINEAR} alone for every linear layer",
            )


def _unfit_layers(model: PreTrainedModel) -> list[str]:
    """Return the names of the language model's linear layers that LoRA does not support. Routers of a mixture
    of experts are left out, because all-linear does not include them."""
    language = language_model(model)
    blocks = mixture_blocks(language)
    found = {
        key.rpartition(".")[2]
        for key, module in language.named_modules()
        if isinstance(module, (nn.Linear, Conv1D))
        and computes_every_token(blocks, key)
        and not _is_adaptable(model, key, module)
    }
    return sorted(found)


def _is_adaptable(model: PreTrainedModel, key: str, module: nn.Module) -> bool:
    """Return whether LoRA supports a layer of the model: a linear layer or an embedding.

    Some architectures derive classes from a linear layer that compute something else, for example a router
    that returns a tuple. PEFT would add the adapter to them too, and the first forward pass would fail.
    """
    if not isinstance(module, _ADAPTABLE):
        return False
    if model.config.model_type in _MAMBA_TYPES and key.rpartition(".")[2] in _MAMBA_LAYERS:
        return False
    if not isinstance(module, nn.Linear) or type(module).forward is nn.Linear.forward:
        return True
    try:
        output = module(torch.empty(2, module.in_features, dtype=module.weight.dtype, device="meta"))
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError):
        return False
    return isinstance(output, torch.Tensor) and output.shape == (2, module.out_features)


def auto_class_name(folder: Path) -> str:
    """Return the name of the transformers class that loads the model in ``folder``."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    return str(auto_class(config).__name__)


def skeleton(folder: Path) -> PreTrainedModel:
    """Create the model in ``folder`` on the meta device, without memory for weights.

    Raises :class:`UserError` if the model needs a package that is not installed, or if its configuration
    contradicts itself.
    """
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    make: Callable[..., PreTrainedModel] = auto_class(config).from_config
    try:
        with torch.device("meta"):
            return make(config, trust_remote_code=False)
    except ImportError as error:
        raise UserError(
            f"model.uri: a {config.model_type} model cannot be created: {str(error).strip().splitlines()[0]}",
            "use a trainer image in which this package is installed, or another model",
        ) from error
    except Exception as error:  # each architecture raises other errors
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(
            f"model.uri: the {config.model_type} model of config.json cannot be created: {reason}",
            "check whether config.json is complete, and whether it was written for this version of "
            "transformers",
        ) from error


def _problem(model: PreTrainedModel, name: str) -> str | None:
    """Return why a target module cannot work, or None if it can. As in PEFT, ``name`` is the full name of a
    module, or its last parts. It may also be the name of a tensor with the weights of experts."""
    if name == ALL_LINEAR:
        return f"{ALL_LINEAR} cannot be combined with names"
    found = find_layers(model, name)
    if not found:
        of_experts = any(f".{tensor}".endswith(f".{name}") for tensor in _experts_tensors(model))
        return None if of_experts else f"the model has no layer {name}"
    if any(module is output_head(model) for module in found.values()):
        return f"{name} is the output head, which cannot have an adapter"
    if any(module is tied_embedding(model) for module in found.values()):
        return f"{name} shares its weights with the output head, which cannot have an adapter"
    unfit = next((module for key, module in found.items() if not _is_adaptable(model, key, module)), None)
    return f"{name} is a {type(unfit).__name__}, which LoRA does not support" if unfit is not None else None


def find_layers(model: nn.Module, name: str) -> dict[str, nn.Module]:
    """Return the modules with a name, which is the full name of a module or its last parts."""
    return {key: module for key, module in model.named_modules() if f".{key}".endswith(f".{name}")}


def _experts_tensors(model: PreTrainedModel) -> list[str]:
    return [f"{key}.{name}" for key, module in model.named_modules() for name in stacked_experts(module)]


def layer_names(model: PreTrainedModel) -> list[str]:
    """Return the valid target names: the last part of the name of each layer that can have an adapter, and
    the last two parts of the names of tensors with the weights of experts."""
    excluded = (output_head(model), tied_embedding(model))
    return sorted(
        {
            key.rpartition(".")[2]
            for key, module in model.named_modules()
            if module not in excluded and _is_adaptable(model, key, module)
        }
        | {".".join(tensor.split(".")[-2:]) for tensor in _experts_tensors(model)}
    )


def language_model(model: PreTrainedModel) -> nn.Module:
    """Return the language model that a multimodal model contains, or ``model`` itself if it is a text
    model."""
    config = model.config
    return model if config.get_text_config() is config else model.get_decoder()


def other_parts(model: PreTrainedModel) -> list[str]:
    """Return the names of a multimodal model's parts outside of its language model, such as the vision tower.

    Only parts with layers that could be adapted are listed. Returns an empty list for a text model.
    """
    language = language_model(model)
    path = next((key for key, module in model.named_modules() if module is language), "")
    if not path:
        return []
    parts: list[str] = []
    parent: nn.Module = model
    above = ""
    for name in path.split("."):
        for key, child in parent.named_children():
            has_layers = any(isinstance(module, _ADAPTABLE) for module in child.modules())
            if key != name and child is not output_head(model) and has_layers:
                parts.append(above + key)
        parent, above = parent.get_submodule(name), f"{above}{name}."
    return parts


def with_excluded_modules(folder: Path, stages: Sequence[StagePlan]) -> list[StagePlan]:
    """Return ``stages`` with ``excluded_modules`` set, so that they train only the language model.

    Another part, such as the vision tower, is trained only if ``targetModules`` names one of its layers, and
    the language model has no layer of this name. Only the configuration of the model in ``folder`` is read.
    """
    model = skeleton(folder)
    parts = other_parts(model)
    if not parts:
        return list(stages)
    layers = [key for key, module in model.named_modules() if isinstance(module, _ADAPTABLE)]
    found = []
    for stage in stages:
        named = _named_parts(layers, parts, stage.parameters.target_modules or [])
        excluded = [part for part in parts if part not in named]
        parameters = stage.parameters.model_copy(update={"excluded_modules": excluded or None})
        found.append(stage.model_copy(update={"parameters": parameters}))
    return found


def _named_parts(layers: Sequence[str], parts: Sequence[str], names: Sequence[str]) -> set[str]:
    """Return those of the ``parts`` that have a layer with one of the ``names``. A name that the language
    model also has is ignored."""
    named: set[str] = set()
    for name in names:
        keys = [key for key in layers if key == name or key.endswith(f".{name}")]
        of_parts = {key: part for key in keys for part in parts if f"{key}.".startswith(f"{part}.")}
        if len(of_parts) == len(keys):
            named |= set(of_parts.values())
    return named


def excluded_pattern(parts: Sequence[str]) -> str:
    """Return a regular expression that matches all layers of ``parts``, for PEFT's ``exclude_modules``."""
    return rf"({'|'.join(map(re.escape, parts))})(\..*)?"


def output_head(model: PreTrainedModel) -> nn.Module | None:
    head: nn.Module | None = model.get_output_embeddings()
    return head


def tied_embedding(model: PreTrainedModel) -> nn.Module | None:
    """Return the input embedding if it shares its weights with the output head, else None.

    A shared embedding must not get an adapter, because merging the adapter would change the output head too.
    """
    if not getattr(model.config, "tie_word_embeddings", False):
        return None
    embedding: nn.Module = model.get_input_embeddings()
    return embedding
