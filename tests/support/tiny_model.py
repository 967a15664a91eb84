"""A tiny real model for tests: a random Llama and a tokenizer trained on a few lines."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PAD, START_OF_TURN, END_OF_TURN = "<|pad|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CORPUS = [
    "user assistant system order mug lamp chair Paris Berlin Oslo item quantity city",
    '{"item": "mug", "quantity": 2, "city": "Oslo"} please send me thanks yes no 0 1 2 3 4 5 6 7 8 9',
]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer with ChatML turns."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [PAD, START_OF_TURN, END_OF_TURN]
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=START_OF_TURN,
        eos_token=END_OF_TURN,
        chat_template=CHAT_TEMPLATE,
    )


def save_rambling_model(folder: Path, *, reasons: bool = False) -> None:
    """Write a tiny model that answers each prompt with colons without end. A random model repeats the last
    token of its prompt, which in the chat template of this one is a colon. If it ``reasons``, the template
    renders reasoning."""
    tokenizer = make_tokenizer()
    reasoning = "('<think>' + message.reasoning_content + '</think>' if message.reasoning_content else '')"
    tokenizer.chat_template = CHAT_TEMPLATE.replace(
        "'\n' + message", f"':' + {reasoning} + message" if reasons else "':' + message"
    ).replace("assistant\n", "assistant:")
    _save(folder, tokenizer)


def save_tiny_model(folder: Path) -> None:
    """Write a model with its tokenizer, as the data role does."""
    _save(folder, make_tokenizer())


def _save(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=True,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
