"""The configurations of published models, with the values of their config.json."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from tunegate_api.contract.plan import TrainingParameters
from tunegate_trainer.models.adapter import add_adapter
from tunegate_trainer.models.target_modules import skeleton


@dataclass(frozen=True)
class Published:
    """A published model, of which the tests have only the configuration."""

    name: str
    config: str
    """The configuration class in transformers."""
    billions: float
    """The published number of parameters."""
    settings: dict[str, Any]
    layers: tuple[str, ...]
    """The layers that get an adapter by default, or only all-linear."""
    small: dict[str, Any] = field(default_factory=dict)
    """Changes of the settings for a model of the family that tests can run."""

    @property
    def id(self) -> str:
        return self.name.lower().replace(" ", "-")

    def save(self, folder: Path, **changes: Any) -> Path:
        """Write config.json with ``changes`` of the settings into ``folder``."""
        config = getattr(transformers, self.config)(**(self.settings | changes))
        config.architectures = [self.config.replace("Config", "ForCausalLM")]
        config.save_pretrained(folder)
        return folder


def adapted(folder: Path, parameters: TrainingParameters) -> Any:
    """Return the PEFT model that training would create of a model, without memory for weights.

    Without the device, PEFT would draw random weights for adapters of experts, which takes seconds.
    """
    with warnings.catch_warnings(action="ignore"), torch.device("meta"):
        return add_adapter(skeleton(folder), parameters)


ATTENTION = ("k_proj", "o_proj", "q_proj", "v_proj")
_SMALL = {"vocab_size": 512, "hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 8}

LLAMA_3_8B = Published(
    "Llama 3 8B",
    "LlamaConfig",
    8.03,
    {
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
        "tie_word_embeddings": False,
    },
    ("all-linear",),
    {**_SMALL, "intermediate_size": 352, "num_key_value_heads": 4},
)
QWEN3_30B_A3B = Published(
    "Qwen3 30B A3B",
    "Qwen3MoeConfig",
    30.5,
    {
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "moe_intermediate_size": 768,
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "norm_topk_prob": True,
        "max_position_embeddings": 40960,
        "tie_word_embeddings": False,
    },
    ATTENTION,
    {
        **_SMALL,
        "moe_intermediate_size": 64,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "num_experts": 8,
        "num_experts_per_tok": 2,
    },
)
GPT_OSS_20B = Published(
    "gpt-oss 20B",
    "GptOssConfig",
    20.9,
    {
        "vocab_size": 201088,
        "hidden_size": 2880,
        "intermediate_size": 2880,
        "num_hidden_layers": 24,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "num_local_experts": 32,
        "num_experts_per_tok": 4,
        "sliding_window": 128,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": False,
    },
    ATTENTION,
    {
        **_SMALL,
        "intermediate_size": 128,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "sliding_window": 32,
    },
)
MIXTRAL_8X7B = Published(
    "Mixtral 8x7B",
    "MixtralConfig",
    46.7,
    {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "max_position_embeddings": 32768,
        "sliding_window": None,
        "tie_word_embeddings": False,
    },
    ATTENTION,
    {**_SMALL, "intermediate_size": 256, "num_key_value_heads": 2, "num_local_experts": 4},
)
PHI_4_MINI = Published(
    "Phi-4-mini",
    "Phi3Config",
    3.84,
    {
        "vocab_size": 200064,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 32,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "original_max_position_embeddings": 4096,
        "partial_rotary_factor": 0.75,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.75,
            "original_max_position_embeddings": 4096,
            "short_factor": [1.0] * 48,
            "long_factor": [8.0] * 48,
        },
        "sliding_window": 262144,
        "tie_word_embeddings": True,
        "pad_token_id": 199999,
        "bos_token_id": 199999,
        "eos_token_id": 199999,
    },
    ("all-linear",),
    {
        **_SMALL,
        "intermediate_size": 352,
        "num_key_value_heads": 4,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "pad_token_id": 0,
        "bos_token_id": 0,
        "eos_token_id": 0,
    },
)
GLM_4_5_AIR = Published(
    "GLM-4.5-Air",
    "Glm4MoeConfig",
    106,
    {
        "vocab_size": 151552,
        "hidden_size": 4096,
        "intermediate_size": 10944,
        "moe_intermediate_size": 1408,
        "num_hidden_layers": 46,
        "num_attention_heads": 96,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "n_routed_experts": 128,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "first_k_dense_replace": 1,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": False,
    },
    (),
    {
        **_SMALL,
        "hidden_size": 512,
        "intermediate_size": 512,
        "moe_intermediate_size": 64,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "n_routed_experts": 8,
        "n_shared_experts": 32,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 0,
    },
)
PUBLISHED_MODELS = (LLAMA_3_8B, QWEN3_30B_A3B, GPT_OSS_20B, MIXTRAL_8X7B, PHI_4_MINI)
LLAMA_4_SCOUT = Published(
    "Llama 4 Scout",
    "Llama4TextConfig",
    107.8,
    {
        "vocab_size": 202048,
        "hidden_size": 5120,
        "intermediate_size": 8192,
        "intermediate_size_mlp": 16384,
        "num_hidden_layers": 48,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "num_local_experts": 16,
        "num_experts_per_tok": 1,
        "max_position_embeddings": 262144,
        "tie_word_embeddings": False,
    },
    (*ATTENTION, "shared_expert.down_proj", "shared_expert.gate_proj"),
    {
        **_SMALL,
        "intermediate_size": 256,
        "intermediate_size_mlp": 256,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "num_local_experts": 4,
    },
)
