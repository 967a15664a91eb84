"""Resolve which layers get an adapter: what ``all-linear`` means for a mixture of experts, and which parts of
a multimodal model are left out."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from tunegate_api.contract.plan import StagePlan, TrainingParameters
from tunegate_trainer.models.mixtures import default_layers, mixture_blocks
from tunegate_trainer.models.target_modules import (
    ALL_LINEAR,
    find_layers,
    language_model,
    other_parts,
    output_head,
    skeleton,
    with_excluded_modules,
)
from tunegate_trainer.process.errors import UserError


def with_targets(folder: Path, stages: Sequence[StagePlan]) -> list[StagePlan]:
    """Return ``stages`` with the names that PEFT needs in ``target_modules``, and with ``excluded_modules``.

    For a mixture of experts, ``all-linear`` means the linear layers that compute every token: attention,
    shared experts and dense MLPs. Only the configuration of the model in ``folder`` is read. Raises
    :class:`UserError` if PEFT cannot add one of the adapters.
    """
    model = skeleton(folder)
    is_mixture = bool(mixture_blocks(language_model(model)))
    resolved: list[StagePlan] = []
    for stage in stages:
        parameters = stage.parameters
        if stage.starts_from == "Adapter":
            names = resolved[-1].parameters.target_modules
        else:
            names = parameters.target_modules
            if names and is_mixture:
                names = _names(model, stage.name, parameters)
        parameters = parameters.model_copy(update={"target_modules": names})
        resolved.append(stage.model_copy(update={"parameters": parameters}))
    resolved = with_excluded_modules(folder, resolved)
    if any(stage.parameters.adapter != "None" for stage in resolved):
        _adapters().check_adapters(folder, resolved)
    return resolved


def _names(model: PreTrainedModel, stage: str, parameters: TrainingParameters) -> list[str]:
    """Return the target modules of a new adapter of a mixture of experts.

    If PEFT takes a layer's name for one of experts, the result has the name of the layer's weight instead.
    PEFT changes such a weight itself, which is possible neither in 4 bits nor with dropout.
    """
    is_default = parameters.target_modules == [ALL_LINEAR]
    names = (
        default_layers(language_model(model), output_head(model))
        if is_default
        else list(parameters.target_modules or [])
    )
    renamed = {name for name in names if find_layers(model, name) and _adapters().is_renamed(model, name)}
    why = _why_not_as_weight(model, parameters)
    if is_default and why:
        return [name for name in names if name not in renamed]
    if renamed and why:
        raise UserError(
            f"stage {stage}: adapter.targetModules: PEFT cannot add an adapter to "
            f"{', '.join(sorted(renamed))} of a {model.config.model_type} model {why}",
            "remove these names, or targetModules: the default has all layers that are possible",
        )
    tensors = [name for name in names if not find_layers(model, name)]
    if tensors and parameters.lora_dropout:
        raise UserError(
            f"stage {stage}: adapter.dropout: PEFT has no dropout for experts: {', '.join(tensors)}",
            "remove dropout, or these names from targetModules",
        )
    return [f"{name}.weight" if name in renamed else name for name in names]


def _why_not_as_weight(model: PreTrainedModel, parameters: TrainingParameters) -> str:
    """Return why an adapter cannot change the weights of layers themselves; empty if it can."""
    if parameters.quantization:
        return "in 4 bits"
    if parameters.lora_dropout:
        return "with dropout"
    return "that has other parts" if other_parts(model) else ""


def _adapters() -> Any:
    """Import the module that creates adapters only if needed: importing PEFT takes two seconds."""
    return import_module("tunegate_trainer.models.adapter")
