"""The chat templates of public model families, from TRL's package."""

import re
from collections.abc import Sequence
from pathlib import Path

import trl
from transformers import PreTrainedTokenizerBase

from support.tiny_model import make_tokenizer

_FOLDER = Path(trl.__file__).parent / "chat_templates"
_TOKEN = re.compile(r"<[^<>\s'\"=]{1,40}>")
"""Matches texts in a template that look like tokens. Tokens of reasoning and tools do not become special
tokens, so decoding keeps them."""
_KEPT = ("think", "tool")


def model_templates() -> dict[str, str]:
    """Return the original templates by file name, without those that TRL changed for training."""
    paths = sorted(path for path in _FOLDER.glob("*.jinja") if not path.stem.endswith("_training"))
    return {path.stem: path.read_text(encoding="utf-8") for path in paths}


def tokenizer_for(template: str, kept: Sequence[str] = _KEPT) -> PreTrainedTokenizerBase:
    """Return a small tokenizer with a chat template and its tokens. Tokens whose name has one of the words
    ``kept`` are not special."""
    tokenizer = make_tokenizer()
    found = sorted(set(_TOKEN.findall(template)))
    tokenizer.add_special_tokens(
        {
            "eos_token": "<eos>",
            "bos_token": "<bos>",
            "additional_special_tokens": [t for t in found if not any(word in t for word in kept)],
        }
    )
    tokenizer.add_tokens([token for token in found if any(word in token for word in kept)])
    tokenizer.chat_template = template
    return tokenizer
