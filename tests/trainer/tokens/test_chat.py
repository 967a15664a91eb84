"""How a chat becomes text, and what is said where it cannot."""

import json
import shutil

import pytest

from support.tiny_model import CHAT_TEMPLATE
from tunegate_api.judging.golden import Message
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.tokens.chat import encode, load_tokenizer, render


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('no system turn') }}", "no system turn"),
        ("{% if %}", "Expected an expression"),
        ("{{ messages[0].content + 1 }}", "TypeError: can only concatenate str"),
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
        ("{% for i in range(1, 2, 0) %}{% endfor %}", "ValueError: range"),
        ("{{ messages[0].content.format() }}", "IndexError"),
    ],
)
def test_a_chat_template_that_fails_says_on_what(tiny_model, template, said):
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=f"the model's chat template refuses a chat: .*{said}"):
        render(tokenizer, [Message(role="user", content="{}")])


def test_a_template_that_asks_for_the_date_is_told_the_same_every_day(tiny_model):
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}" + CHAT_TEMPLATE
    text = render(tokenizer, [Message(role="user", content="mug")])
    assert text == "01 Jan 2026<|im_start|>user\nmug<|im_end|>\n<|im_start|>assistant\n"


def test_an_adapter_is_tokenized_as_its_base_which_its_folder_does_not_describe(tiny_model, tmp_path):
    """Of Qwen2 transformers trusts no class that a repository names."""
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    shutil.copytree(tiny_model, base)
    for name, changes in (
        ("config.json", {"model_type": "qwen2"}),
        ("tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer"}),
    ):
        (base / name).write_text(json.dumps(json.loads((base / name).read_text()) | changes))
    adapter.mkdir()
    for path in base.glob("*token*"):
        shutil.copy(path, adapter)
    text = "order  mug\n 2"
    expected = encode(load_tokenizer(base), text)
    assert encode(load_tokenizer(adapter), text) != expected, "else this test shows nothing"
    assert encode(load_tokenizer(adapter, base), text) == expected
