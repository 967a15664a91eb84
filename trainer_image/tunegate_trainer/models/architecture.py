"""What an architecture supports, decided from a model's configuration."""

from importlib.util import find_spec
from typing import Any

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    DynamicCache,
)
from transformers.cache_utils import (
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionCacheLayerMixin,
)

_ONE_START, _ONE_START_ON_GPU = {"gpt_oss"}, {"opt"}
"""Types of models whose attention ignores the position ids of packed examples: always, or on a GPU."""


def auto_class(config: Any) -> Any:
    """Return the transformers class that loads the model of ``config``, a ``PreTrainedConfig``.

    The class is ``AutoModelForCausalLM``, or ``AutoModelForImageTextToText`` for multimodal models that the
    first class does not support. Returns None if the model cannot generate text from text alone.
    """
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForCausalLM
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING or config.is_encoder_decoder:
        return None
    # Models that need an image, such as BLIP, have it as their main input.
    reads_text = _architecture(config).main_input_name == "input_ids"
    return AutoModelForImageTextToText if reads_text else None


def has_own_cache(config: Any) -> bool:
    """Return whether a model generates text only with a class of cache that no other model has."""
    return str(config.get_text_config().model_type) == "minimax"


def attention_of(config: Any) -> str | None:
    """Return the attention implementation for the model of ``config``, a ``PreTrainedConfig``.

    The result is ``sdpa``, or ``eager`` if the architecture does not support ``sdpa``. Returns None if the
    architecture supports no attention mask that separates packed examples, or if it has ALiBi, which
    transformers rounds by the position of a token in the row. Call it only for a model that generates text,
    see :func:`auto_class`.
    """
    if getattr(config.get_text_config(), "alibi", False):
        return None
    architecture = _architecture(config)
    if getattr(architecture, "_supports_sdpa", False):
        return "sdpa"
    return "eager" if getattr(architecture, "_supports_attention_backend", False) else None


def _architecture(config: Any) -> Any:
    mappings = (MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING)
    found: Any = next(mapping[type(config)] for mapping in mappings if type(config) in mapping)
    return found[0] if isinstance(found, tuple) else found


def sees_all_before(config: Any) -> bool:
    """Return whether each token attends to all earlier tokens, and is influenced by them only through
    attention.

    False for models with sliding windows, sparse attention or recurrent states.
    """
    layers = DynamicCache(config=config.get_text_config()).layers
    return attention_of(config) == "sdpa" and all(type(layer) is DynamicLayer for layer in layers)


def windows_of(config: Any) -> list[int | None]:
    """Return the window of each layer: the number of tokens that a token attends to, or None if it attends to
    all earlier tokens."""
    text = config.get_text_config()
    layers = DynamicCache(config=text).layers
    kinds = getattr(text, "layer_types", None) or [None] * len(layers)
    return [
        layer.sliding_window
        if isinstance(layer, DynamicSlidingWindowLayer)
        else text.sliding_window  # a layer that reads the keys of another layer has no cache
        if kind == "sliding_attention"
        else None
        for layer, kind in zip(layers, kinds, strict=True)
    ]


def separate_passes_reason(config: Any, *, on_gpu: bool) -> str | None:
    """Return why a model computes each training example in a separate pass, as far as its configuration shows
    it, or None.

    The check in :mod:`tunegate_trainer.train.packing` decides once the model is loaded.
    """
    text = config.get_text_config()
    # Some configurations have other names for the number of layers.
    layers = DynamicCache(config=text).layers if hasattr(text, "num_hidden_layers") else []
    is_recurrent = any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in layers)
    if is_recurrent and find_spec("causal_conv1d") is None:
        return "its layers with convolutions or recurrence need causal_conv1d, which is not installed"
    if text.model_type in _ONE_START or (on_gpu and text.model_type in _ONE_START_ON_GPU):
        return (
            "its attention mask in transformers does not separate packed examples, until a version of "
            "transformers gives their positions to the mask"
        )
    return None


def context_length(config: Any) -> int:
    """Return the maximum number of tokens of a text with its answer, or a very large number if the
    configuration names none."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", 0) or 1 << 20)


def rope_switch(config: Any) -> int | None:
    """Return the length in tokens above which a text is computed with other position embeddings, or None.

    Models with longrope (arXiv 2402.13753) have two sets of RoPE frequencies, and transformers chooses one of
    them for a whole batch, by its longest text. Dynamic NTK changes only above the context length.
    """
    parameters = getattr(config.get_text_config(), "rope_parameters", None) or {}
    by_layer = [each for each in parameters.values() if isinstance(each, dict)]
    switches = [
        int(each["original_max_position_embeddings"])
        for each in by_layer or [parameters]
        if each.get("rope_type") == "longrope"
    ]
    return min(switches, default=None)


def is_mixture(config: Any) -> bool:
    """Return whether a model has several experts. Call it only for an architecture that supports experts,
    because the result is True if the configuration does not contain the number of experts."""
    counts = [getattr(config, name, None) for name in ("num_experts", "num_local_experts")]
    known = [count for count in counts if isinstance(count, int)]
    return not known or max(known) > 1


def dropout_rates(config: Any) -> dict[str, float]:
    """Return the rates of dropout in the configuration of a model that are not 0, by name. Those of heads for
    other tasks are left out."""
    return {
        name: float(rate)
        for name, rate in sorted(config.get_text_config().to_dict().items())
        if "drop" in name and type(rate) in (int, float) and rate
        if not name.startswith(("classifier", "summary"))
    }
