"""Models and jobs that the data role refuses, see :mod:`support.families`."""

from support.family import Family
from support.family_settings import GPT2, LOCAL_EXPERTS, MAMBA2, NEMOTRON_H, attention, rope

_OTHER = "use a model of another architecture"
_DECODER = "use a causal language model, or a multimodal model that contains one"
_IN_16_BITS = "use a copy of the model in 16 bits, whose weights need "
_CONFIG = "check whether config.json is complete, and whether it was written for this version of transformers"
_LAYERS = "use all-linear alone for every linear layer"
_NAMED = "name the layers that get an adapter; the model's layers are: "


def _inseparable(name: str) -> dict[str, str]:
    return {"refused": f"the attention of {name} models cannot separate them", "remedy": _OTHER}


def _not_causal(name: str) -> dict[str, str]:
    return {"refused": f"the attention of {name} models is not causal", "remedy": _DECODER}


def _encoder(name: str) -> dict[str, str]:
    return {"refused": f"{name} models have an encoder and a decoder", "remedy": _DECODER}


def _quantized(method: str) -> dict[str, str]:
    return {"refused": f"the model's weights are quantized ({method})", "remedy": _IN_16_BITS}


def _stored(method: str) -> dict[str, object]:
    return {"quantization_config": {"quant_method": method}}


def _targets(*names: str, **adapter: str) -> dict[str, object]:
    return {"adapter": {"type": "LoRA", "targetModules": [*names], **adapter}}


REFUSED_MODELS = (
    Family("Falcon RW", "FalconConfig", "ALiBi", {"alibi": True, "head_dim": None}, **_inseparable("falcon")),
    Family("BLOOM", "BloomConfig", "ALiBi", **_inseparable("bloom")),
    Family("MPT", "MptConfig", "ALiBi", **_inseparable("mpt")),
    Family(
        "GPT-Neo",
        "GPTNeoConfig",
        "local attention",
        {"num_layers": 2, "attention_types": [[["global", "local"], 1]]},
        **_inseparable("gpt_neo"),
    ),
    Family("GPT-1", "OpenAIGPTConfig", "learned positions", GPT2, **_inseparable("openai-gpt")),
    Family("Mamba", "MambaConfig", "state space", **_inseparable("mamba")),
    Family("Mamba 2", "Mamba2Config", "state space", {"num_heads": 8}, **_inseparable("mamba2")),
    Family("Falcon Mamba", "FalconMambaConfig", "state space", **_inseparable("falcon_mamba")),
    Family("RWKV", "RwkvConfig", "state space", **_inseparable("rwkv")),
    Family("xLSTM", "xLSTMConfig", "recurrent", {"head_dim": None}, **_inseparable("xlstm")),
    Family(
        "MiniMax-Text-01",
        "MiniMaxConfig",
        "hybrid, MoE",
        attention("linear_attention", num_local_experts=4, num_experts_per_tok=2, block_size=16),
        refused="minimax models generate text only with a cache of their own",
        remedy=_OTHER,
    ),
    Family("BERT", "BertConfig", "encoder", **_not_causal("bert")),
    Family("RoBERTa", "RobertaConfig", "encoder", **_not_causal("roberta")),
    Family("XLM-RoBERTa", "XLMRobertaConfig", "encoder", **_not_causal("xlm-roberta")),
    Family("T5", "T5Config", "encoder and decoder", **_encoder("t5")),
    Family("BART", "BartConfig", "encoder and decoder", **_encoder("bart")),
    Family("Marian", "MarianConfig", "encoder and decoder", **_encoder("marian")),
    Family("Whisper", "WhisperConfig", "encoder and decoder", **_encoder("whisper")),
    Family(
        "ViT",
        "ViTConfig",
        "images",
        refused="a vit model does not generate text",
        remedy=_DECODER,
    ),
    Family(
        "BLIP-2",
        "Blip2Config",
        "multimodal",
        refused="a blip-2 model does not generate text",
        remedy=_DECODER,
    ),
    Family("PaliGemma", "PaliGemmaConfig", "multimodal", **_not_causal("paligemma")),
    Family(
        "Llama 3.2 Vision",
        "MllamaConfig",
        "multimodal",
        refused="the language model of mllama models has a configuration class of its own",
        remedy=_OTHER,
    ),
    Family(
        "Gemma 3n (multimodal)",
        "Gemma3nConfig",
        "multimodal",
        refused="TimmWrapperModel requires the timm library but it was not found",
        remedy="use a trainer image in which this package is installed, or another model",
    ),
    Family(
        "gpt-oss in MXFP4",
        "GptOssConfig",
        "quantized",
        {**LOCAL_EXPERTS, **_stored("mxfp4")},
        **_quantized("mxfp4"),
    ),
    Family(
        "DeepSeek V3 in FP8",
        "DeepseekV3Config",
        "quantized",
        _stored("fp8"),
        **_quantized("fp8"),
    ),
    Family("Llama in GPTQ", "LlamaConfig", "quantized", _stored("gptq"), **_quantized("gptq")),
    Family("Qwen2 in AWQ", "Qwen2Config", "quantized", _stored("awq"), **_quantized("awq")),
    Family(
        "Custom code",
        "LlamaConfig",
        "custom code",
        file={"model_type": "house_model", "auto_map": {"AutoModelForCausalLM": "modeling.HouseModel"}},
        refused="the model's config.json cannot be used: ",
        remedy="use a model that this version of transformers supports, without custom code",
    ),
    Family(
        "Unknown RoPE",
        "LlamaConfig",
        "unusable config.json",
        file=rope("spiral"),
        refused="the llama model of config.json cannot be created: KeyError: 'spiral'",
        remedy=_CONFIG,
    ),
    Family(
        "Heads that do not divide the hidden size",
        "LlamaConfig",
        "unusable config.json",
        file={"num_attention_heads": 3},
        refused="The hidden size (64) is not a multiple of the number of attention heads (3)",
        remedy="use a model that this version of transformers supports",
    ),
)

REFUSED_JOBS = (
    Family(
        "Falcon-H1, all linear layers",
        "FalconH1Config",
        "hybrid",
        {**MAMBA2, "mamba_d_ssm": 128},
        refused="all-linear includes out_proj, which LoRA does not support",
        remedy=_NAMED,
    ),
    Family(
        "Nemotron-H, all linear layers",
        "NemotronHConfig",
        "hybrid",
        NEMOTRON_H,
        refused="all-linear includes out_proj, which LoRA does not support",
        remedy=_NAMED,
    ),
    Family(
        "A convolution as target",
        "FalconH1Config",
        "hybrid",
        {**MAMBA2, "mamba_d_ssm": 128},
        stage=_targets("q_proj", "conv1d"),
        refused="conv1d is a Conv1d, which LoRA does not support",
        remedy=_LAYERS,
    ),
    Family(
        "The output head as target",
        "LlamaConfig",
        "dense",
        stage=_targets("q_proj", "lm_head"),
        refused="lm_head is the output head, which cannot have an adapter",
        remedy=_LAYERS,
    ),
    Family(
        "A tied embedding as target",
        "LlamaConfig",
        "dense",
        {"tie_word_embeddings": True},
        stage=_targets("embed_tokens"),
        refused="embed_tokens shares its weights with the output head, which cannot have an adapter",
        remedy=_LAYERS,
    ),
    Family(
        "A norm as target",
        "Qwen3Config",
        "dense",
        stage=_targets("q_norm"),
        refused="q_norm is a Qwen3RMSNorm, which LoRA does not support",
        remedy=_LAYERS,
    ),
    Family(
        "A layer of another family",
        "GPT2Config",
        "learned positions",
        GPT2,
        stage=_targets("q_proj", "v_proj"),
        refused="the model has no layer q_proj; the model has no layer v_proj",
        remedy="the model's layers are: c_attn, c_fc, c_proj",
    ),
    Family(
        "Dropout on a tensor",
        "Gemma3Config",
        "multimodal",
        multimodal=True,
        stage=_targets("q_proj", "head.probe", dropout="0.1"),
        refused="stage sft: adapter.targetModules: lora.ParamWrapper does not work with lora_dropout != 0",
        remedy="change adapter; the model's layers are: down_proj, fc1, ",
    ),
    Family(
        "All linear layers and a name",
        "LlamaConfig",
        "dense",
        stage=_targets("all-linear", "embed_tokens"),
        refused="all-linear cannot be combined with names",
        remedy=_LAYERS,
    ),
    Family(
        "Examples longer than the context",
        "LlamaConfig",
        "dense",
        stage={"training": {"maxLength": 1024, "maxSteps": 2}},
        refused="training.maxLength is 1024, but the model takes at most 512 tokens",
        remedy="set training.maxLength to 512 or less",
    ),
)
