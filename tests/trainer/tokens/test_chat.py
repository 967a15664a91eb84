"""Rendering chats with a chat template, and the errors of templates."""

import json
import shutil

import pytest

from support.tiny_model import CHAT_TEMPLATE
from tunegate_api.messages import Message
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.tokens.chat import encode, load_tokenizer, render


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("{{ raise_exception('no system turn') }}", "no system turn"),
        ("{% if %}", "Expected an expression"),
        ("{{ messages[0].content + 1 }}", "TypeError: can only concatenate str"),
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
        ("{% for i in range(1, 2, 0) %}{% endfor %}", "ValueError: range"),
        ("{{ messages[0].content.format() }}", "IndexError"),
    ],
)
def test_failing_chat_template_raises_its_error(tiny_model, template, error):
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=f"the model's chat template refuses a chat: .*{error}"):
        render(tokenizer, [Message(role="user", content="{}")])


def test_chat_template_gets_a_fixed_date(tiny_model):
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}" + CHAT_TEMPLATE
    text = render(tokenizer, [Message(role="user", content="mug")])
    assert text == "01 Jan 2026<|im_start|>user\nmug<|im_end|>\n<|im_start|>assistant\n"


def test_tokenizer_of_an_adapter_uses_the_class_of_its_base(tiny_model, tmp_path):
    """For Qwen2, transformers ignores the tokenizer class in the repository, so the model type decides."""
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
    assert encode(load_tokenizer(adapter), text) != expected, "otherwise this test shows nothing"
    assert encode(load_tokenizer(adapter, base), text) == expected
