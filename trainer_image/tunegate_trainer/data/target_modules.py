"""Which layers get an adapter: names that training would stumble over, or pass over, are refused before.

PEFT complains only where not one of several names is in the model.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tunegate_api.v1alpha1.stages import Stage
from tunegate_trainer.errors import UserError

ALL_LINEAR = "all-linear"
_ADAPTABLE = (nn.Linear, Conv1D, nn.Embedding)
"""What LoRA can be put beside."""


def check_target_modules(folder: Path, stages: Sequence[Stage]) -> None:
    """Raise :class:`UserError` for the names of ``adapter.targetModules`` that cannot work with the model in
    ``folder``, of which only the configuration is read."""
    asked = {stage.name: stage.adapter.target_modules for stage in stages if stage.adapter}
    named = {stage: names for stage, names in asked.items() if names and names != [ALL_LINEAR]}
    if not named:
        return
    model = skeleton(folder)
    for stage, names in named.items():
        problems = [problem for name in names if (problem := _problem(model, name))]
        if problems:
            raise UserError(
                f"stage {stage}: adapter.targetModules: {'; '.join(problems)}",
                f"the model's layers are: {', '.join(layer_names(model))}; {ALL_LINEAR} alone means every "
                "linear one",
            )


def skeleton(folder: Path) -> PreTrainedModel:
    """The model without weights: modules take no memory on the meta device."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    make: Callable[..., PreTrainedModel] = AutoModelForCausalLM.from_config
    with torch.device("meta"):
        return make(config, trust_remote_code=False)


def _problem(model: PreTrainedModel, name: str) -> str | None:
    """Why a target cannot work; None if it can. As in PEFT, it is a module's name or the end of one."""
    if name == ALL_LINEAR:
        return f"{ALL_LINEAR} does not go together with names"
    found = [module for key, module in model.named_modules() if key == name or key.endswith(f".{name}")]
    if not found:
        return f"the model has no layer {name}"
    if any(module is output_head(model) for module in found):
        return f"{name} is the output head, which gets no adapter"
    if any(module is tied_embedding(model) for module in found):
        return f"{name} shares its weights with the output head, which gets no adapter"
    unfit = next((module for module in found if not isinstance(module, _ADAPTABLE)), None)
    return f"{name} is no layer but a {type(unfit).__name__}" if unfit is not None else None


def layer_names(model: PreTrainedModel) -> list[str]:
    """What targets can be called: the last part of the name of each layer that can get an adapter."""
    without = (output_head(model), tied_embedding(model))
    return sorted(
        {
            key.rpartition(".")[2]
            for key, module in model.named_modules()
            if isinstance(module, _ADAPTABLE) and module not in without
        }
    )


def output_head(model: PreTrainedModel) -> nn.Module | None:
    head: nn.Module | None = model.get_output_embeddings()
    return head


def tied_embedding(model: PreTrainedModel) -> nn.Module | None:
    """The input embedding where its weights are the output head's too: merged into them, an adapter would
    change both."""
    if not getattr(model.config, "tie_word_embeddings", False):
        return None
    embedding: nn.Module = model.get_input_embeddings()
    return embedding
