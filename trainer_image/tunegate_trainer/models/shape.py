"""Determine the sizes of a model from its configuration."""

import re
from collections import Counter
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizers_utils import should_convert_module

from tunegate_api.contract.shapes import ExpertsShape, LinearShape, ModelShape
from tunegate_trainer.models.architecture import attention_of, sees_all_before, windows_of
from tunegate_trainer.models.fused_layers import is_gated_mlp, is_norm
from tunegate_trainer.models.mixtures import computes_every_token, mixture_blocks, stacked_experts
from tunegate_trainer.models.target_modules import language_model, output_head, skeleton

_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts")
"""The names that configurations have for the number of experts that compute each token."""
_ACTIVATIONS = ("act_fn", "activation_fn", "activation")
"""The names of the activation function in an MLP."""
_QUERY_NORMS = (".q_norm", ".qk_norm")
"""The ends of the names of the norms of queries. Llama 4 has one norm for queries and keys."""


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
    language = language_model(model)
    heads = config.num_attention_heads
    linears = _linears(language, output_head(model), config.hidden_size)
    experts = _experts(language, config, linears)
    windows = [window for window in windows_of(model.config) if window]
    return ModelShape(
        parameters=sum(p.numel() for p in model.parameters()),
        vocabulary=config.vocab_size,
        hidden_size=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=heads,
        key_value_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_size=getattr(config, "head_dim", None) or config.hidden_size // heads,
        intermediate_size=_dense_size(language, config.num_hidden_layers)
        if experts
        else getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        linears=linears,
        quantized=_quantized(model),
        experts=experts,
        has_query_norms=any(key.endswith(_QUERY_NORMS) for key, _ in language.named_modules()),
        keeps_probabilities=attention_of(model.config) == "eager",
        windowed_layers=len(windows),
        window=max(windows, default=0),
        sees_all_before=sees_all_before(model.config),
        takes_kernels=any(map(is_norm, model.modules())) and any(map(is_gated_mlp, model.modules())),
    )


def _linears(language: nn.Module, head: nn.Module | None, hidden_size: int) -> list[LinearShape]:
    """Return the shapes of all linear layers except the output head, and of the tensors of experts."""
    blocks, found = mixture_blocks(language), Counter[tuple[str, str, int, int, int, bool]]()
    for parent_path, parent in language.named_modules():
        layers = [
            *((name, *sizes) for name, child in parent.named_children() if (sizes := _sizes(child, head))),
            *_stacked_sizes(parent, hidden_size),
        ]
        block = parent_path.rpartition(".")[2]
        for i, (name, inputs, outputs, matrices) in enumerate(layers):
            # The last linear layer of attention or an MLP reads the outputs of the others, not their input.
            reads = name if i and i == len(layers) - 1 else block
            path = f"{parent_path}.{name}".removeprefix(".")
            is_default = computes_every_token(blocks, path)
            found[_path_in_block(path), reads, inputs, outputs, matrices, is_default] += 1
    return [
        LinearShape(
            name=name,
            reads=reads,
            inputs=inputs,
            outputs=outputs,
            count=count,
            matrices=matrices,
            in_all_linear=is_default,
        )
        for (name, reads, inputs, outputs, matrices, is_default), count in found.items()
    ]


def _path_in_block(path: str) -> str:
    """Return the path of a layer in its block: the part after the number of the block."""
    return re.sub(r"\.\d+(?=\.)", "", re.sub(r"^.*?\.\d+\.", "", path, count=1))


def _sizes(module: nn.Module, head: nn.Module | None) -> tuple[int, int, int] | None:
    """Return the input and output size of a linear layer, and 1. Returns None for any other module, and for
    the output head."""
    if module is head:
        return None
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features, 1
    if isinstance(module, Conv1D):
        return int(module.nx), int(module.nf), 1
    return None


def _stacked_sizes(module: nn.Module, hidden_size: int) -> Iterator[tuple[str, int, int, int]]:
    """Yield the name, input size, output size and number of experts of each tensor of experts in a module.

    The first tensor of a module reads hidden states, and the last one returns them.
    """
    tensors = stacked_experts(module)
    shapes = [(*tensor.shape,) for tensor in tensors.values()]
    if shapes and (shapes[0][2], shapes[-1][1]) != (hidden_size, hidden_size):  # inputs before outputs
        shapes = [(experts, outputs, inputs) for experts, inputs, outputs in shapes]
    for name, (experts, outputs, inputs) in zip(tensors, shapes, strict=True):
        yield name, inputs, outputs, experts


def _quantized(model: PreTrainedModel) -> int:
    """Return the number of weights that bitsandbytes stores in 4 bits: those of the layers that transformers
    replaces when it loads a model for NF4."""
    kept = HfQuantizer.get_modules_to_not_convert(model, None, [*(model._keep_in_fp32_modules or ())])
    return sum(
        module.weight.numel()
        for key, module in model.named_modules()
        if (type(module) is nn.Linear or isinstance(module, Conv1D)) and should_convert_module(key, kept)
    )


def _experts(language: nn.Module, config: Any, linears: list[LinearShape]) -> ExpertsShape | None:
    """Return the sizes of the routed experts, or None if the model has none, or in another form."""
    stacked = [one for one in linears if one.is_stacked]
    found = [module for key, module in language.named_modules() if stacked_experts(module)]
    if not stacked:
        return None
    last = stacked[-1]
    per_token = next((n for name in _PER_TOKEN if (n := getattr(config, name, None))), last.matrices)
    if len(signature(found[0].forward).parameters) == 1:  # the experts do not know which of them were chosen
        per_token = last.matrices
    return ExpertsShape(
        layers=last.count,
        experts=last.matrices,
        per_token=per_token,
        size=last.inputs,
        kept_values=_kept_values(found[0], last.inputs),
    )


def _kept_values(experts: nn.Module, size: int) -> int:
    """Return how many values the gate of an expert of this ``size`` keeps per token and per unit of its size,
    as autograd saves them."""
    gate = getattr(experts, "_apply_gate", None)
    if gate is None:
        return 3
    kept: dict[int, int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes() // tensor.element_size()
        return tensor

    joined = torch.empty(1, 2 * size, device="meta", requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        gated = gate(joined * 1)
    del gated
    return round(sum(kept.values()) / size)


def _dense_size(language: nn.Module, layers: int) -> int:
    """Return the total intermediate size of shared experts and dense MLPs, as a mean over all layers."""
    blocks, total = mixture_blocks(language), 0
    for key, module in language.named_modules():
        inner = [child for child in module.children() if isinstance(child, nn.Linear)]
        is_mlp = len(inner) > 1 and any(hasattr(module, name) for name in _ACTIVATIONS)
        if is_mlp and computes_every_token(blocks, key):
            total += inner[-1].in_features
    return round(total / layers)
