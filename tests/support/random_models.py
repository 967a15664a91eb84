"""Small random models of many architectures."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig

from support.tiny_model import make_tokenizer

SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def save_random_model(folder: Path, config_class: type[PreTrainedConfig], **settings: object) -> Path:
    """Save a random model of an architecture, with a tokenizer."""
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    config = config_class(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **SMALL,
        **settings,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
