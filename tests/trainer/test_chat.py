"""How a chat becomes text, and what is said where it cannot."""

import pytest

from tunegate_api.golden import Message
from tunegate_trainer.chat import load_tokenizer, render
from tunegate_trainer.errors import UserError


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
