"""Determine the sizes of a model from its configuration."""

from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tunegate_api.memory.shapes import LinearShape, ModelShape
from tunegate_trainer.models.architecture import sees_all_before
from tunegate_trainer.models.fused_layers import is_gated_mlp, is_norm
from tunegate_trainer.models.target_modules import language_model, output_head, skeleton


def model_shape(folder: Path) -> ModelShape | None:
    """Return the sizes of the model in ``folder``. Its modules are created without memory for weights.

    For a multimodal model, only the linear layers of its language model are listed. Returns None if the
    configuration lacks the usual fields of a transformer, such as the number of attention heads, or has a
    list instead of a number, as Gemma 3n.
    """
    model = skeleton(folder)
    try:
        return _shape(model, model.config.get_text_config())
    except (AttributeError, ValidationError, RuntimeError):  # RuntimeError: layers have different sizes
        return None


def _shape(model: PreTrainedModel, config: Any) -> ModelShape:
    head, found = output_head(model), Counter[tuple[str, str, int, int]]()
    for parent_path, parent in language_model(model).named_modules():
        linears = [
            (name, *sizes)
            for name, child in parent.named_children()
            if child is not head and (sizes := _linear_sizes(child))
        ]
        block = parent_path.rpartition(".")[2]
        for i, (name, inputs, outputs) in enumerate(linears):
            # The last linear layer of attention or an MLP reads the outputs of the others, not their input.
            reads = name if i and i == len(linears) - 1 else block
            found[name, reads, inputs, outputs] += 1
    heads = config.num_attention_heads
    return ModelShape(
        parameters=sum(p.numel() for p in model.parameters()),
        vocabulary=config.vocab_size,
        hidden_size=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=heads,
        key_value_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_size=getattr(config, "head_dim", None) or config.hidden_size // heads,
        intermediate_size=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        linears=[
            LinearShape(name=name, reads=reads, inputs=inputs, outputs=outputs, count=count)
            for (name, reads, inputs, outputs), count in found.items()
        ],
        sees_all_before=sees_all_before(model.config),
        takes_kernels=any(map(is_norm, model.modules())) and any(map(is_gated_mlp, model.modules())),
    )


def _linear_sizes(module: nn.Module) -> tuple[int, int] | None:
    """Return the input and output size of a linear layer, or None for any other module."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, Conv1D):
        return int(module.nx), int(module.nf)
    return None
