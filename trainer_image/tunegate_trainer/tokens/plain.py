"""A tokenizer of words, for checks of data whose model is not known."""

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

_TEMPLATE = """\
{%- if tools %}<|im_start|>tools
{{ tools | tojson }}<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{% if message.reasoning_content %}<think>
{{ message.reasoning_content }}
</think>

{% endif %}{{ message.content }}{% for call in message.tool_calls or [] %}
<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
"""A chat template in the style of ChatML that renders everything a row can have."""


def plain_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer whose tokens are words and punctuation marks. All words have the same token id, so
    only numbers of tokens are meaningful."""
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))  # noqa: S106 - not a password
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",  # noqa: S106 - not a password
        bos_token="<|im_start|>",  # noqa: S106 - not a password
        eos_token="<|im_end|>",  # noqa: S106 - not a password
        pad_token="<|im_end|>",  # noqa: S106 - not a password
        chat_template=_TEMPLATE,
    )
