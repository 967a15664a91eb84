"""Create a LoRA adapter with PEFT, and find out what PEFT makes of target modules."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import nn

from tunegate_api.contract.plan import StagePlan, TrainingParameters
from tunegate_trainer.models.target_modules import (
    ALL_LINEAR,
    excluded_pattern,
    find_layers,
    layer_names,
    skeleton,
)
from tunegate_trainer.process.errors import UserError


def add_adapter(model: nn.Module, parameters: TrainingParameters) -> Any:
    """Add a new adapter in float32 to ``model``. Return a ``peft.PeftModel``.

    Target modules are names of modules or of tensors, such as those of experts. Raises :class:`UserError` if
    the model has none of the names, or if PEFT supports no adapter for one of them.
    """
    names, excluded = parameters.target_modules or [], parameters.excluded_modules or []
    tensors = [name for name in names if not find_layers(model, name) and _has_tensor(model, name)]
    settings: dict[str, Any] = {
        "r": parameters.lora_r,
        "lora_alpha": parameters.lora_alpha,
        "lora_dropout": parameters.lora_dropout,
        "target_modules": ALL_LINEAR if names == [ALL_LINEAR] else [n for n in names if n not in tensors],
        "target_parameters": tensors or None,
        "exclude_modules": excluded_pattern(excluded) if excluded else None,
    }
    try:
        return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
    except ValueError as error:
        raise UserError(f"adapter.targetModules: {error}") from error


def _has_tensor(model: nn.Module, name: str) -> bool:
    return any(f".{key}".endswith(f".{name}") for key, _ in model.named_parameters())


def check_adapters(folder: Path, stages: Sequence[StagePlan]) -> None:
    """Raise :class:`UserError` if PEFT cannot add the adapters of ``stages`` to the model in ``folder``. The
    adapters are created without memory for weights."""
    for stage in stages:
        if stage.parameters.adapter == "None" or stage.starts_from == "Adapter":
            continue
        # Without the context, PEFT would create each matrix in memory first, which takes three times as long.
        try:
            with warnings.catch_warnings(action="ignore"), torch.device("meta"):
                add_adapter(skeleton(folder), stage.parameters)
        except UserError as error:
            names = ", ".join(layer_names(skeleton(folder)))
            raise UserError(
                f"stage {stage.name}: {error}",
                error.hint or f"change adapter; the model's layers are: {names}",
            ) from error


def is_renamed(model: nn.Module, name: str) -> bool:
    """Return whether PEFT takes a layer's name for one of experts, and adds the adapter to the experts.

    In transformers 4, experts were linear layers, and in many architectures their names were those that
    layers of shared experts and dense MLPs still have. PEFT moves these names to the tensors that have
    replaced the experts.
    """
    config = LoraConfig(target_modules=[name])
    try:
        convert_peft_config_for_transformers(config, model, None)
    except ValueError:  # names that PEFT moves only together
        return True
    return name not in (config.target_modules or ())
