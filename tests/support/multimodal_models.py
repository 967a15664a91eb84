"""Small random multimodal models of several families."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    Gemma3Config,
    Mistral3Config,
    PreTrainedConfig,
    Qwen2_5_VLConfig,
    Qwen3_5Config,
    SmolVLMConfig,
)

from support.tiny_model import make_tokenizer
from tunegate_trainer.models.architecture import auto_class

_VISION = {"hidden_size": 32, "intermediate_size": 32, "patch_size": 14}
_LAYERS = {"num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28}
_BLOCKS = {"depth": 1, "num_heads": 2, "out_hidden_size": 64}


def _gemma3(text: dict[str, Any], image: int) -> PreTrainedConfig:
    layers = {"sliding_window": 32, "layer_types": ["sliding_attention", "full_attention"]}
    return Gemma3Config(
        text_config=text | layers,
        vision_config=_VISION | _LAYERS,
        mm_tokens_per_image=4,
        boi_token_index=image + 1,
        eoi_token_index=image + 2,
        image_token_index=image,
    )


def _mistral3(text: dict[str, Any], image: int) -> PreTrainedConfig:
    return Mistral3Config(
        text_config=text | {"model_type": "mistral"},
        vision_config=_VISION | _LAYERS | {"model_type": "pixtral", "head_dim": 16},
        image_token_index=image,
        spatial_merge_size=2,
    )


def _qwen2_5_vl(text: dict[str, Any], image: int) -> PreTrainedConfig:
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    return Qwen2_5_VLConfig(
        text_config=text | {"rope_parameters": rope},
        vision_config=_VISION | _BLOCKS | {"fullatt_block_indexes": [0]},
        image_token_id=image,
        video_token_id=image + 1,
        vision_start_token_id=image + 2,
        vision_end_token_id=image + 3,
    )


def _smolvlm(text: dict[str, Any], image: int) -> PreTrainedConfig:
    return SmolVLMConfig(
        text_config=text | {"model_type": "llama"},
        vision_config=_VISION | _LAYERS,
        image_token_id=image,
        scale_factor=2,
    )


def _qwen3_5(text: dict[str, Any], image: int) -> PreTrainedConfig:
    linear = {
        "layer_types": ["linear_attention", "full_attention"],
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_conv_kernel_dim": 4,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [1, 1, 0],
            "partial_rotary_factor": 0.25,
            "mrope_interleaved": True,
        },
    }
    return Qwen3_5Config(
        text_config=text | linear,
        vision_config=_VISION | _BLOCKS,
        image_token_id=image,
        video_token_id=image + 1,
        vision_start_token_id=image + 2,
        vision_end_token_id=image + 3,
    )


FAMILIES: dict[str, Callable[[dict[str, Any], int], PreTrainedConfig]] = {
    "gemma3": _gemma3,
    "mistral3": _mistral3,
    "qwen2_5_vl": _qwen2_5_vl,
    "smolvlm": _smolvlm,
    "qwen3_5": _qwen3_5,
}


def save_multimodal_model(folder: Path, family: str) -> Path:
    """Save a random model of a family, with a tokenizer. Image tokens have higher ids than the tokens of the
    tokenizer."""
    tokenizer = make_tokenizer()
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text = {
        "vocab_size": len(tokenizer) + 4,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,
        **special,
    }
    config = FAMILIES[family](text, len(tokenizer))
    for name, value in special.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    auto_class(config).from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
