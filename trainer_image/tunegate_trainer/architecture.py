"""What can be done with an architecture, by what its configuration says."""

from typing import Any

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, DynamicCache
from transformers.cache_utils import DynamicLayer


def attention_of(config: Any) -> str | None:
    """The attention of transformers for a model of ``config``, a ``PreTrainedConfig`` of a causal language
    model: ``sdpa``, or ``eager`` where it has no such; None where it takes no mask that keeps packed examples
    apart."""
    found = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    architecture = found[0] if isinstance(found, tuple) else found
    if getattr(architecture, "_supports_sdpa", False):
        return "sdpa"
    return "eager" if getattr(architecture, "_supports_attention_backend", False) else None


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
