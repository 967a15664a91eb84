"""Settings that the configurations of several model families share."""

from typing import Any

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
"""The layers of attention in most families."""


def attention(first: str, **settings: Any) -> dict[str, Any]:
    """Return the settings of a model whose second layer has full attention."""
    return {"layer_types": [first, "full_attention"], **settings}


SLIDING = attention("sliding_attention", sliding_window=8)
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
SHARED_EXPERT = {**EXPERTS, "shared_expert_intermediate_size": 32}
ROUTED = {
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
LATENT = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "num_key_value_heads": 4,
    "head_dim": None,
}
DELTA = attention(
    "linear_attention",
    linear_num_key_heads=2,
    linear_num_value_heads=4,
    linear_key_head_dim=16,
    linear_value_head_dim=16,
    linear_conv_kernel_dim=4,
)
MAMBA2 = {
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 16,
}
NEMOTRON_H = {
    "layers_block_type": ["mamba", "attention", "mlp"],
    "num_hidden_layers": None,
    "mamba_num_heads": 8,
    "mamba_head_dim": 16,
    "ssm_state_size": 8,
    "n_groups": 1,
    "chunk_size": 16,
}
UNTIED = {"tie_word_embeddings": False}
GPT2 = {
    "n_embd": 64,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 512,
    "hidden_size": None,
    "num_hidden_layers": None,
    "num_attention_heads": None,
    "num_key_value_heads": None,
    "head_dim": None,
    "intermediate_size": None,
    "max_position_embeddings": None,
}


def rope(kind: str, **settings: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **settings}}


LONGROPE = rope(
    "longrope", original_max_position_embeddings=32, short_factor=[1.0] * 8, long_factor=[4.0] * 8
) | {"original_max_position_embeddings": 32}
