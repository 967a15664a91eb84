"""What can be done with an architecture, by what its configuration says."""

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
    """The class of transformers that loads a model of ``config``, a ``PreTrainedConfig``, to generate text:
    ``AutoModelForCausalLM``, or ``AutoModelForImageTextToText`` for multimodal models that are only there.
    None for a model that cannot generate text from text alone."""
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForCausalLM
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING or config.is_encoder_decoder:
        return None
    # What reads an image first, as BLIP does, has it as its main input.
    reads_text = _architecture(config).main_input_name == "input_ids"
    return AutoModelForImageTextToText if reads_text else None


def attention_of(config: Any) -> str | None:
    """The attention of transformers for a model of ``config``, a ``PreTrainedConfig`` of a model that
    generates text: ``sdpa``, or ``eager`` where it has no such; None where it takes no mask that keeps packed
    examples apart."""
    architecture = _architecture(config)
    if getattr(architecture, "_supports_sdpa", False):
        return "sdpa"
    return "eager" if getattr(architecture, "_supports_attention_backend", False) else None


def _architecture(config: Any) -> Any:
    """The class of a model of ``config``."""
    mappings = (MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING)
    found: Any = next(mapping[type(config)] for mapping in mappings if type(config) in mapping)
    return found[0] if isinstance(found, tuple) else found


def sees_all_before(config: Any) -> bool:
    """Whether each token of a model of ``config`` sees all that is before it, by fused attention alone: no
    windows, no choice of keys, no states that run from token to token."""
    layers = DynamicCache(config=config.get_text_config()).layers
    return attention_of(config) == "sdpa" and all(type(layer) is DynamicLayer for layer in layers)


def is_mixture(config: Any) -> bool:
    """Whether a model of ``config`` has experts: some of an architecture with experts have none."""
    counts = [getattr(config, name, None) for name in ("num_experts", "num_local_experts")]
    known = [count for count in counts if isinstance(count, int)]
    return not known or max(known) > 1
