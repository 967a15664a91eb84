"""What an architecture supports, decided from a model's configuration."""

from typing import Any

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    DynamicCache,
)
from transformers.cache_utils import DynamicLayer


def auto_class(config: Any) -> Any:
    """Return the transformers class that loads the model of ``config``, a ``PreTrainedConfig``.

    It is ``AutoModelForCausalLM``, or ``AutoModelForImageTextToText`` for multimodal models that only the
    latter supports. None for a model that cannot generate text from text alone.
    """
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForCausalLM
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING or config.is_encoder_decoder:
        return None
    # Models that need an image, such as BLIP, have it as their main input.
    reads_text = _architecture(config).main_input_name == "input_ids"
    return AutoModelForImageTextToText if reads_text else None


def attention_of(config: Any) -> str | None:
    """Return the attention implementation for the model of ``config``, a ``PreTrainedConfig``.

    It is ``sdpa``, or ``eager`` if the architecture does not support ``sdpa``. None if it supports no
    attention mask that separates packed examples. The model must generate text, see :func:`auto_class`.
    """
    architecture = _architecture(config)
    if getattr(architecture, "_supports_sdpa", False):
        return "sdpa"
    return "eager" if getattr(architecture, "_supports_attention_backend", False) else None


def _architecture(config: Any) -> Any:
    """Return the model class of ``config``."""
    mappings = (MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING)
    found: Any = next(mapping[type(config)] for mapping in mappings if type(config) in mapping)
    return found[0] if isinstance(found, tuple) else found


def sees_all_before(config: Any) -> bool:
    """Return whether each token of the model sees all earlier tokens, and only through attention.

    That excludes sliding windows, sparse attention and recurrent states.
    """
    layers = DynamicCache(config=config.get_text_config()).layers
    return attention_of(config) == "sdpa" and all(type(layer) is DynamicLayer for layer in layers)


def is_mixture(config: Any) -> bool:
    """Return whether a model has several experts. Its architecture must support experts."""
    counts = [getattr(config, name, None) for name in ("num_experts", "num_local_experts")]
    known = [count for count in counts if isinstance(count, int)]
    return not known or max(known) > 1
