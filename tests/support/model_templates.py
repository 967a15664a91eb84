"""The chat templates of public model families, as TRL's package ships them."""

import re
from pathlib import Path

import trl
from transformers import PreTrainedTokenizerBase

from support.tiny_model import make_tokenizer

_FOLDER = Path(trl.__file__).parent / "chat_templates"
_TOKEN = re.compile(r"<[^<>\s'\"=]{1,40}>")
"""What looks like a token in a template. Those of thoughts and tools are text that decoding keeps."""
_KEPT = ("think", "tool")


def model_templates() -> dict[str, str]:
    """Each original template by the name of its file, without those that TRL changed for training."""
    paths = sorted(path for path in _FOLDER.glob("*.jinja") if not path.stem.endswith("_training"))
    return {path.stem: path.read_text(encoding="utf-8") for path in paths}


def tokenizer_for(template: str) -> PreTrainedTokenizerBase:
    """A small tokenizer with a template and the tokens that it writes."""
    tokenizer = make_tokenizer()
    found = sorted(set(_TOKEN.findall(template)))
    tokenizer.add_special_tokens(
        {
            "eos_token": "<eos>",
            "bos_token": "<bos>",
            "additional_special_tokens": [t for t in found if not any(kept in t for kept in _KEPT)],
        }
    )
    tokenizer.add_tokens([token for token in found if any(kept in token for kept in _KEPT)])
    tokenizer.chat_template = template
    return tokenizer
