"""The model families that the tests train and evaluate, each as a tiny random model.

Configuration classes are named as text, so that ``tools/families_page.py`` can write docs/families.md without
importing transformers.
"""

from typing import Any

from support.family import Family

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def _attention(first: str, **settings: Any) -> dict[str, Any]:
    """Return the settings of a model whose second layer has full attention."""
    return {"layer_types": [first, "full_attention"], **settings}


_SLIDING = _attention("sliding_attention", sliding_window=8)
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_SHARED_EXPERT = {**_EXPERTS, "shared_expert_intermediate_size": 32}
_ROUTED = {
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
_LATENT = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "num_key_value_heads": 4,
    "head_dim": None,
}
_DELTA = _attention(
    "linear_attention",
    linear_num_key_heads=2,
    linear_num_value_heads=4,
    linear_key_head_dim=16,
    linear_value_head_dim=16,
    linear_conv_kernel_dim=4,
)
_MAMBA2 = {
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 16,
}
_UNTIED = {"tie_word_embeddings": False}
_GPT2 = {
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


def _rope(kind: str, **settings: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **settings}}


_LONGROPE = _rope(
    "longrope", original_max_position_embeddings=32, short_factor=[1.0] * 8, long_factor=[4.0] * 8
) | {"original_max_position_embeddings": 32}


_DENSE = (
    Family("Llama 2", "LlamaConfig", "dense", {"num_key_value_heads": 4}),
    Family(
        "Llama 3.1",
        "LlamaConfig",
        "dense, scaled RoPE",
        _rope(
            "llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=64,
        ),
    ),
    Family("Llama with YaRN", "LlamaConfig", "dense, scaled RoPE", _rope("yarn", factor=4.0)),
    Family("Llama with dynamic NTK", "LlamaConfig", "dense, scaled RoPE", _rope("dynamic", factor=4.0)),
    Family("SmolLM3", "SmolLM3Config", "dense, layers without RoPE", {"no_rope_layers": [1, 0]}),
    Family("Mistral", "MistralConfig", "sliding window", {"sliding_window": 8}),
    Family("Ministral", "MinistralConfig", "sliding window", _SLIDING),
    Family("Ministral 3", "Ministral3Config", "dense"),
    Family(
        "Qwen2",
        "Qwen2Config",
        "sliding window",
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
    ),
    Family("Qwen3", "Qwen3Config", "dense"),
    Family("Gemma", "GemmaConfig", "dense", _UNTIED),
    Family("Gemma 2", "Gemma2Config", "softcap, sliding window", {**_UNTIED, "sliding_window": 8}),
    Family("Gemma 3", "Gemma3TextConfig", "sliding window", {**_UNTIED, **_SLIDING}),
    Family(
        "Gemma 4",
        "Gemma4TextConfig",
        "sliding window, embeddings per layer",
        {
            **_UNTIED,
            **_SLIDING,
            "num_kv_shared_layers": 0,
            "hidden_size_per_layer_input": 16,
            "vocab_size_per_layer_input": 330,
            "global_head_dim": 16,
        },
    ),
    Family("VaultGemma", "VaultGemmaConfig", "sliding window", {**_UNTIED, **_SLIDING}),
    Family("Phi-2", "PhiConfig", "dense"),
    Family("Phi-3", "Phi3Config", "sliding window", {"sliding_window": 8}),
    Family(
        "Phi-3.5 mini",
        "Phi3Config",
        "longrope",
        _LONGROPE,
        note="texts up to `original_max_position_embeddings` and longer texts get separate passes",
    ),
    Family("OLMo", "OlmoConfig", "dense"),
    Family("OLMo 2", "Olmo2Config", "dense"),
    Family("OLMo 3", "Olmo3Config", "sliding window", _SLIDING),
    Family("Granite 3", "GraniteConfig", "dense"),
    Family("Command R", "CohereConfig", "dense", {"logit_scale": 1.0, **_UNTIED}),
    Family("Command A", "Cohere2Config", "sliding window", {"logit_scale": 1.0, **_UNTIED, **_SLIDING}),
    Family("StableLM", "StableLmConfig", "dense", fixed=True),
    Family("StarCoder2", "Starcoder2Config", "dense"),
    Family("Seed-OSS", "SeedOssConfig", "dense"),
    Family("Helium", "HeliumConfig", "dense"),
    Family("Nemotron", "NemotronConfig", "dense", fixed=True),
    Family("Arcee", "ArceeConfig", "dense"),
    Family("Apertus", "ApertusConfig", "dense"),
    Family("InternLM3", "InternLM3Config", "dense"),
    Family("EXAONE", "ExaoneConfig", "dense", {"num_layers": 2, "num_hidden_layers": None}),
    Family("EXAONE 4", "Exaone4Config", "sliding window", {**_SLIDING, "sliding_window_pattern": "LG"}),
    Family("GLM-4 9B", "GlmConfig", "dense"),
    Family("GLM-4 0414", "Glm4Config", "dense"),
    Family("HunYuan", "HunYuanDenseV1Config", "dense"),
    Family("ERNIE 4.5", "Ernie4_5Config", "dense"),
    Family("MiniCPM3", "MiniCPM3Config", "MLA", {**_LATENT, **_UNTIED}, fixed=True),
    Family("Youtu", "YoutuConfig", "MLA", _LATENT, fixed=True),
    Family("BitNet", "BitNetConfig", "dense"),
    Family("nanochat", "NanoChatConfig", "softcap"),
    Family("GPT-2", "GPT2Config", "learned positions", _GPT2),
    Family("StarCoder", "GPTBigCodeConfig", "learned positions", _GPT2),
    Family("GPT-J", "GPTJConfig", "dense", {**_GPT2, "rotary_dim": 8}),
    Family("CodeGen", "CodeGenConfig", "dense", {**_GPT2, "rotary_dim": 8}),
    Family("GPT-NeoX, Pythia", "GPTNeoXConfig", "dense", fixed=True),
    Family(
        "OPT",
        "OPTConfig",
        "learned positions",
        {"ffn_dim": 64, "word_embed_proj_dim": 64, "init_std": 0.5},
        note="one example at a time on a GPU",
        fixed=True,
    ),
)

_MIXTURES = (
    Family("Mixtral", "MixtralConfig", "MoE", _LOCAL_EXPERTS),
    Family(
        "Phi-3.5 MoE",
        "PhimoeConfig",
        "MoE",
        _LOCAL_EXPERTS | {"router_jitter_noise": 0.0, "input_jitter_noise": 0.0},
        targets=ATTENTION,
    ),
    Family("OLMoE", "OlmoeConfig", "MoE", _EXPERTS),
    Family("FlexOlmo", "FlexOlmoConfig", "MoE", _EXPERTS),
    Family("Granite 3 MoE", "GraniteMoeConfig", "MoE", _LOCAL_EXPERTS),
    Family("Qwen2-MoE", "Qwen2MoeConfig", "MoE", _SHARED_EXPERT),
    Family("Qwen3-MoE", "Qwen3MoeConfig", "MoE", _EXPERTS),
    Family(
        "gpt-oss", "GptOssConfig", "MoE, sinks, sliding window", {**_LOCAL_EXPERTS, **_SLIDING}, singly=True
    ),
    Family("MiniMax-M2", "MiniMaxM2Config", "MoE", _LOCAL_EXPERTS),
    Family(
        "AFMoE",
        "AfmoeConfig",
        "MoE, sliding window",
        {**_EXPERTS, **_SLIDING, "num_dense_layers": 1, "num_shared_experts": 1},
    ),
    Family("EXAONE MoE", "ExaoneMoeConfig", "MoE, sliding window", {**_EXPERTS, **_SLIDING}),
    Family("GLM-4.5", "Glm4MoeConfig", "MoE", _ROUTED),
    Family("GLM-4.7 Flash", "Glm4MoeLiteConfig", "MoE, MLA", {**_ROUTED, **_LATENT}, fixed=True),
    Family("HunYuan MoE", "HunYuanMoEV1Config", "MoE", {"num_experts": 4, "moe_topk": 2}),
    Family(
        "ERNIE 4.5 MoE",
        "Ernie4_5_MoeConfig",
        "MoE",
        {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 32, "moe_layer_start_index": 1},
    ),
    Family("dots.llm1", "Dots1Config", "MoE", _ROUTED),
    Family(
        "DeepSeek V2",
        "DeepseekV2Config",
        "MoE, MLA",
        {**_ROUTED, **_LATENT, "topk_method": "greedy"},
        fixed=True,
    ),
    Family("DeepSeek V3", "DeepseekV3Config", "MoE, MLA", {**_ROUTED, **_LATENT}, fixed=True),
    Family(
        "DeepSeek V3.2",
        "DeepseekV32Config",
        "MoE, MLA, sparse attention",
        {**_ROUTED, **_LATENT, "index_topk": 8, "index_head_dim": 16, "index_n_heads": 16},
        fixed=True,
    ),
    Family(
        "LongCat Flash",
        "LongcatFlashConfig",
        "MoE, MLA",
        {
            **_LATENT,
            "n_routed_experts": 4,
            "zero_expert_num": 2,
            "moe_topk": 2,
            "expert_ffn_hidden_size": 32,
            "ffn_hidden_size": 64,
            "num_layers": 1,
            "num_hidden_layers": None,
            "head_dim": 8,
        },
        fixed=True,
    ),
    Family(
        "MiMo V2 Flash",
        "MiMoV2FlashConfig",
        "MoE, sinks, sliding window",
        {
            **_SLIDING,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "v_head_dim": 8,
        },
        fixed=True,
    ),
)

_HYBRIDS = (
    Family(
        "Granite 4.0",
        "GraniteMoeHybridConfig",
        "hybrid, MoE",
        {
            **_LOCAL_EXPERTS,
            **_MAMBA2,
            "shared_intermediate_size": 32,
            "layer_types": ["mamba", "attention"],
            "position_embedding_type": "rope",
        },
        singly=True,
        fixed=True,
    ),
    Family("OLMo Hybrid", "OlmoHybridConfig", "hybrid", _DELTA, singly=True, fixed=True),
    Family(
        "Qwen3-Next", "Qwen3NextConfig", "hybrid, MoE", {**_DELTA, **_SHARED_EXPERT}, singly=True, fixed=True
    ),
    Family("Qwen3.5", "Qwen3_5TextConfig", "hybrid", _DELTA, singly=True, fixed=True),
    Family(
        "Qwen3.5 MoE",
        "Qwen3_5MoeTextConfig",
        "hybrid, MoE",
        {**_DELTA, **_SHARED_EXPERT},
        singly=True,
        fixed=True,
    ),
    Family("LFM2", "Lfm2Config", "hybrid", _attention("conv"), singly=True, fixed=True),
    Family(
        "LFM2 MoE",
        "Lfm2MoeConfig",
        "hybrid, MoE",
        _attention("conv", num_dense_layers=1, **_EXPERTS),
        singly=True,
        fixed=True,
    ),
    Family(
        "Kimi Linear",
        "KimiLinearConfig",
        "hybrid, MoE, MLA",
        {
            **_LATENT,
            **_LOCAL_EXPERTS,
            **_attention("linear_attention", linear_head_dim=16, linear_num_heads=4),
            "q_lora_rank": None,
            "moe_intermediate_size": 32,
            "mlp_layer_types": ["dense", "sparse"],
        },
        singly=True,
        fixed=True,
    ),
    Family("Bamba", "BambaConfig", "hybrid", {**_MAMBA2, "attn_layer_indices": [1]}, singly=True, fixed=True),
    Family(
        "Falcon-H1",
        "FalconH1Config",
        "hybrid",
        {**_MAMBA2, "mamba_d_ssm": 128},
        singly=True,
        fixed=True,
        targets=ATTENTION,
    ),
    Family(
        "Jamba",
        "JambaConfig",
        "hybrid, MoE",
        {
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "num_experts": 2,
            "num_experts_per_tok": 1,
            "mamba_d_state": 8,
            "mamba_dt_rank": 8,
            "use_mamba_kernels": False,
        },
        singly=True,
        fixed=True,
    ),
)

_MULTIMODAL = tuple(
    Family(name, config, features, multimodal=True, **differs)
    for name, config, features, differs in (
        ("Gemma 3 (multimodal)", "Gemma3Config", "multimodal, sliding window", {}),
        ("Mistral Small 3", "Mistral3Config", "multimodal", {}),
        ("Qwen2.5-VL", "Qwen2_5_VLConfig", "multimodal", {}),
        ("SmolVLM", "SmolVLMConfig", "multimodal", {}),
        ("Qwen3.5 (multimodal)", "Qwen3_5Config", "multimodal, hybrid", {"singly": True, "fixed": True}),
    )
)

_REFUSED = tuple(
    Family(name, config, features, settings, refused=f"the attention of {kind} models cannot separate them")
    for name, config, features, kind, settings in (
        ("BLOOM", "BloomConfig", "ALiBi", "bloom", {}),
        ("MPT", "MptConfig", "ALiBi", "mpt", {}),
        (
            "GPT-Neo",
            "GPTNeoConfig",
            "local attention",
            "gpt_neo",
            {"num_layers": 2, "attention_types": [[["global", "local"], 1]]},
        ),
        ("Mamba", "MambaConfig", "state space", "mamba", {}),
        ("Mamba 2", "Mamba2Config", "state space", "mamba2", {"num_heads": 8}),
    )
)

FAMILIES = (*_DENSE, *_MIXTURES, *_HYBRIDS, *_MULTIMODAL, *_REFUSED)
TRAINED = [family for family in FAMILIES if not family.refused]
