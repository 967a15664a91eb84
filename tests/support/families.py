"""The model families that the tests train and evaluate, each as a tiny random model.

Configuration classes are named as text, so that ``tools/families_page.py`` can write docs/families.md without
importing transformers.
"""

from support.family import Family
from support.family_settings import (
    GPT2,
    LATENT,
    LONGROPE,
    SLIDING,
    UNTIED,
    rope,
)
from support.mixed_families import HYBRIDS, MIXTURES
from support.refused_families import REFUSED_JOBS, REFUSED_MODELS

_DENSE = (
    Family("Llama 2", "LlamaConfig", "dense", {"num_key_value_heads": 4}),
    Family(
        "Llama 3.1",
        "LlamaConfig",
        "dense, scaled RoPE",
        rope(
            "llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=64,
        ),
    ),
    Family("Llama with YaRN", "LlamaConfig", "dense, scaled RoPE", rope("yarn", factor=4.0)),
    Family("Llama with dynamic NTK", "LlamaConfig", "dense, scaled RoPE", rope("dynamic", factor=4.0)),
    Family("SmolLM3", "SmolLM3Config", "dense, layers without RoPE", {"no_rope_layers": [1, 0]}),
    Family("Mistral", "MistralConfig", "sliding window", {"sliding_window": 8}),
    Family("Ministral", "MinistralConfig", "sliding window", SLIDING),
    Family("Ministral 3", "Ministral3Config", "dense"),
    Family(
        "Qwen2",
        "Qwen2Config",
        "sliding window",
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
    ),
    Family("Qwen3", "Qwen3Config", "dense"),
    Family("Gemma", "GemmaConfig", "dense", UNTIED),
    Family("Gemma 2", "Gemma2Config", "softcap, sliding window", {**UNTIED, "sliding_window": 8}),
    Family("Gemma 3", "Gemma3TextConfig", "sliding window", {**UNTIED, **SLIDING}),
    Family(
        "Gemma 4",
        "Gemma4TextConfig",
        "sliding window, embeddings per layer",
        {
            **UNTIED,
            **SLIDING,
            "num_kv_shared_layers": 0,
            "hidden_size_per_layer_input": 16,
            "vocab_size_per_layer_input": 330,
            "global_head_dim": 32,
        },
        fixed=True,
    ),
    Family(
        "Gemma 3n",
        "Gemma3nTextConfig",
        "sliding window, embeddings per layer",
        {
            **SLIDING,
            "intermediate_size": [64, 64],
            "activation_sparsity_pattern": [0.0, 0.0],
            "num_kv_shared_layers": 0,
            "hidden_size_per_layer_input": 16,
            "vocab_size_per_layer_input": 330,
            "laurel_rank": 8,
            "altup_num_inputs": 2,
            "initializer_range": 0.05,  # divisions by magnitudes amplify rounding
        },
    ),
    Family("VaultGemma", "VaultGemmaConfig", "sliding window", {**UNTIED, **SLIDING}),
    Family("Phi-2", "PhiConfig", "dense"),
    Family("Phi-3", "Phi3Config", "sliding window", {"sliding_window": 8}),
    Family(
        "Phi-3.5 mini",
        "Phi3Config",
        "longrope",
        LONGROPE,
        note="texts up to `original_max_position_embeddings` and longer texts get separate passes",
    ),
    Family("OLMo", "OlmoConfig", "dense"),
    Family("OLMo 2", "Olmo2Config", "dense"),
    Family("OLMo 3", "Olmo3Config", "sliding window", SLIDING),
    Family("Granite 3", "GraniteConfig", "dense"),
    Family("Command R", "CohereConfig", "dense", {"logit_scale": 1.0, **UNTIED}),
    Family("Command A", "Cohere2Config", "sliding window", {"logit_scale": 1.0, **UNTIED, **SLIDING}),
    Family("StableLM", "StableLmConfig", "dense", fixed=True),
    Family("StarCoder2", "Starcoder2Config", "dense"),
    Family("Seed-OSS", "SeedOssConfig", "dense"),
    Family("Helium", "HeliumConfig", "dense"),
    Family("Nemotron", "NemotronConfig", "dense", fixed=True),
    Family("Arcee", "ArceeConfig", "dense"),
    Family("Apertus", "ApertusConfig", "dense"),
    Family("InternLM3", "InternLM3Config", "dense"),
    Family("EXAONE", "ExaoneConfig", "dense", {"num_layers": 2, "num_hidden_layers": None}),
    Family("EXAONE 4", "Exaone4Config", "sliding window", {**SLIDING, "sliding_window_pattern": "LG"}),
    Family(
        "Falcon",
        "FalconConfig",
        "dense, one head of keys and values",
        {"num_key_value_heads": None, "head_dim": None},
        fixed=True,
    ),
    Family("Doge", "DogeConfig", "dynamic mask attention"),
    Family("GLM-4 9B", "GlmConfig", "dense"),
    Family("GLM-4 0414", "Glm4Config", "dense"),
    Family("HunYuan", "HunYuanDenseV1Config", "dense"),
    Family("ERNIE 4.5", "Ernie4_5Config", "dense"),
    Family("MiniCPM3", "MiniCPM3Config", "MLA", {**LATENT, **UNTIED}, fixed=True),
    Family("Youtu", "YoutuConfig", "MLA", LATENT, fixed=True),
    Family("BitNet", "BitNetConfig", "dense"),
    Family("nanochat", "NanoChatConfig", "softcap"),
    Family("GPT-2", "GPT2Config", "learned positions", GPT2),
    Family("StarCoder", "GPTBigCodeConfig", "learned positions", GPT2),
    Family("GPT-J", "GPTJConfig", "dense", {**GPT2, "rotary_dim": 8}),
    Family("CodeGen", "CodeGenConfig", "dense", {**GPT2, "rotary_dim": 8}),
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

FAMILIES = (*_DENSE, *MIXTURES, *HYBRIDS, *_MULTIMODAL)
REFUSED = (*REFUSED_MODELS, *REFUSED_JOBS)
