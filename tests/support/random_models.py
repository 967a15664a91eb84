"""Small random models of many architectures."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedConfig

from support.family import Family
from support.multimodal_models import save_multimodal_model
from support.tiny_model import make_tokenizer

SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
_FAMILY = {
    **SMALL,
    "intermediate_size": 64,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    # Ten times the usual range, so that outputs depend on all tokens of the prompt, not only on the last.
    "initializer_range": 0.2,
    # The load-balancing loss of a batch is not that of single rows; test_architectures compares it with TRL.
    "router_aux_loss_coef": 0.0,
}


def save_random_model(folder: Path, config_class: type[PreTrainedConfig], **settings: object) -> Path:
    """Save a random model of an architecture, with a tokenizer."""
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    config = config_class(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **{**SMALL, **settings},
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_family(folder: Path, family: Family) -> Path:
    """Save a random model of a family, with a tokenizer. If the family is trained, its model has no
    dropout."""
    if family.multimodal:
        save_multimodal_model(folder, getattr(transformers, family.config).model_type)
    else:
        given = {**_FAMILY, **family.settings}
        settings = {name: value for name, value in given.items() if value is not None}
        save_random_model(folder, getattr(transformers, family.config), **settings)
    if not family.refused:
        set_dropout(folder, 0.0)
    return folder


def set_dropout(folder: Path, rate: float) -> None:
    """Set every rate of dropout in the configuration of a model, and every rate of noise in a router."""
    path = folder / "config.json"
    path.write_text(json.dumps(_with_dropout(json.loads(path.read_text()), rate)))


def _with_dropout(config: dict[str, Any], rate: float) -> dict[str, Any]:
    return {
        name: _with_dropout(value, rate)
        if isinstance(value, dict)
        else rate
        if ("drop" in name or name.endswith("jitter_noise")) and type(value) in (int, float)
        else value
        for name, value in config.items()
    }
