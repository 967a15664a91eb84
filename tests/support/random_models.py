"""Small random models of many architectures."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedTokenizerBase

from support.family import Family
from support.multimodal_models import save_multimodal_model
from support.tiny_model import make_tokenizer, save_tiny_model
from tunegate_trainer.tokens.examples import example

ROWS = [[*range(5, 45)], [*range(48, 18, -1)]]
"""The tokens of two training rows, for the checks before training."""
EXAMPLES = [example(row[:-3], row[-3:]) for row in ROWS]
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


def save_random_model(folder: Path, config_class: type[PreTrainedConfig], **settings: Any) -> Path:
    """Save a random model of an architecture, with a tokenizer."""
    tokenizer = make_tokenizer()
    _save(folder, config_class(**{**_tokens(tokenizer), **SMALL, **settings}), tokenizer)
    return folder


def _tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    special = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {"vocab_size": len(tokenizer), **{name: getattr(tokenizer, name) for name in special}}


def _save(folder: Path, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_family(folder: Path, family: Family) -> Path:
    """Save a random model of a family without dropout, with a tokenizer. A family that is refused whatever
    its stage has only a configuration, and the weights of another model."""
    if family.refused and not family.stage:
        save_tiny_model(folder)
        _configuration(family).save_pretrained(folder)
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | family.file))
        return folder
    if family.multimodal:
        save_multimodal_model(folder, getattr(transformers, family.config).model_type)
    else:
        _save(folder, _configuration(family), make_tokenizer())
    set_dropout(folder, 0.0)
    return folder


def save_family_config(folder: Path, family: Family) -> Path:
    """Save only the configuration of a family's random model."""
    if family.multimodal:
        return save_multimodal_model(folder, getattr(transformers, family.config).model_type)
    _configuration(family).save_pretrained(folder)
    return folder


def _configuration(family: Family) -> PreTrainedConfig:
    given = {**_FAMILY, **family.settings}
    settings = {name: value for name, value in given.items() if value is not None}
    config: PreTrainedConfig = getattr(transformers, family.config)(**_tokens(make_tokenizer()), **settings)
    return config


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
