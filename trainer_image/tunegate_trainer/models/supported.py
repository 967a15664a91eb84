"""Refuse models that cannot be fine-tuned, from their configuration alone, before a GPU is requested."""

from pathlib import Path
from typing import Any

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    PreTrainedModel,
)

from tunegate_api.memory.block import BFLOAT16, base_weights
from tunegate_api.memory.fitting import size_text
from tunegate_trainer.models.architecture import attention_of, auto_class, has_own_cache
from tunegate_trainer.models.shape import model_shape
from tunegate_trainer.models.target_modules import language_model, skeleton
from tunegate_trainer.process.errors import UserError

_OTHER_ARCHITECTURE = "use a model of another architecture"
_CAUSAL = "use a causal language model, or a multimodal model that contains one"


def check_supported(folder: Path, config: Any) -> None:
    """Raise :class:`UserError` if the model in ``folder`` cannot be fine-tuned. ``config`` is its
    ``PreTrainedConfig``. The model's weights are not read."""
    error = _of_configuration(folder, config) or _of_layers(skeleton(folder), config.model_type)
    if error:
        raise error


def _error(reason: str, remedy: str) -> UserError:
    return UserError(f"model.uri: {reason}", remedy)


def _of_configuration(folder: Path, config: Any) -> UserError | None:
    name = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        return _error(f"{name} models have an encoder and a decoder, which is not supported", _CAUSAL)
    if auto_class(config) is None:
        return _error(f"a {name} model does not generate text, so it cannot be fine-tuned", _CAUSAL)
    if has_own_cache(config):
        return _error(
            f"{name} models generate text only with a cache of their own, which is not supported",
            _OTHER_ARCHITECTURE,
        )
    for part in (config, config.get_text_config()):
        quantized = getattr(part, "quantization_config", None)
        if quantized is not None:
            return _of_quantized(folder, quantized)
    if attention_of(config) is None:
        return _error(
            f"training packs several examples in one row, but the attention of {name} models cannot "
            "separate them",
            _OTHER_ARCHITECTURE,
        )
    return None


def _of_quantized(folder: Path, quantized: Any) -> UserError:
    method = quantized.get("quant_method", "") if isinstance(quantized, dict) else ""
    return _error(
        f"the model's weights are quantized{f' ({method})' if method else ''}, which is not supported",
        _hint_for_16_bits(folder),
    )


def _hint_for_16_bits(folder: Path) -> str:
    """Return advice for a model that is stored quantized: the memory of its weights in 16 and in 4 bits."""
    shape = model_shape(folder)
    if shape is None:
        return "use a copy of the model in 16 or 32 bits"
    whole, in_4_bits = (
        size_text(base_weights(shape, stored=BFLOAT16, is_quantized=is_quantized))
        for is_quantized in (False, True)
    )
    why = "; NF4 does not quantize the experts" if shape.experts else ""
    return (
        f"use a copy of the model in 16 bits, whose weights need {whole}; if the stage sets quantization: "
        f"NF4, they need {in_4_bits}{why}"
    )


def _of_layers(model: PreTrainedModel, name: str) -> UserError | None:
    known = (MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING)
    if not any(type(model.config) in mapping for mapping in known):
        return _error(
            f"the language model of {name} models has a configuration class of its own, which is not "
            "supported",
            _OTHER_ARCHITECTURE,
        )
    if any(getattr(module, "is_causal", True) is False for module in language_model(model).modules()):
        return _error(
            f"the attention of {name} models is not causal: tokens may depend on later tokens or on images",
            _CAUSAL,
        )
    return None
