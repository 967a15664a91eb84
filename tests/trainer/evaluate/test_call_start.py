"""The task metric tool_calls finds the start of tool calls of each style of chat templates."""

import pytest
from transformers import PreTrainedTokenizerBase

from support.model_templates import model_templates, tokenizer_for
from tunegate_api.judging.outcomes import FAIL, PASS
from tunegate_api.messages import FunctionCall, Message, ToolCall
from tunegate_api.v1alpha1.finetunejob import TaskMetric
from tunegate_trainer.evaluate.references import labelled_answer, task_references
from tunegate_trainer.evaluate.scorers import SCORERS, Sample
from tunegate_trainer.tokens.rows import Row

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for call in m.tool_calls or [] %}EACH{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
IN_LIST = "{% if loop.first %}[{% else %}, {% endif %}CALL{% if loop.last %}]{% endif %}"
ARGUMENTS = "{{ call.function.arguments | tojson }}"
KEYWORDS = "{% for key, value in call.function.arguments.items() %}{{ key }}='{{ value }}'{% endfor %}"
WITH_ID = '{{ (call.function | tojson)[:-1] }}, "id": "{{ call.id }}"}'
PYTHONIC = "{{ call.function.name }}(" + KEYWORDS + ")"
TEMPLATES = {
    "hermes": "<tool_call>\n{{ call.function | tojson }}\n</tool_call>",
    "llama json": '{"name": "{{ call.function.name }}", "parameters": ' + ARGUMENTS + "}",
    "mistral": "{% if loop.first %}[TOOL_CALLS] {% endif %}" + IN_LIST.replace("CALL", WITH_ID),
    "mistral with arguments": "[TOOL_CALLS]{{ call.function.name }}[ARGS]" + ARGUMENTS,
    "pythonic": IN_LIST.replace("CALL", PYTHONIC),
    "call expression": "call:{{ call.function.name }}{{ '{' }}" + KEYWORDS + "}",
}
"""How a template of each style renders a tool call."""
SAME_CALLS = [
    ("hermes", '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'),
    ("hermes", '<tool_call>{"arguments": {"city": "Oslo"}, "name": "weather"}</tool_call>'),
    ("llama json", '{"name": "weather", "parameters": {"city": "Oslo"}}'),
    ("llama json", '{\n  "parameters" : {"city": "Oslo"},\n  "name" : "weather"\n}'),
    ("mistral", '[{"name": "weather", "arguments": {"city": "Oslo"}, "id": "call00001"}]'),
    ("mistral", '[ {"id": "a1b2c3d4e", "name": "weather", "arguments": {"city": "Oslo"}} ]'),
    ("mistral", '[\n{"arguments": {"city": "Oslo"}, "name": "weather"}\n]'),
    ("mistral with arguments", 'weather{"city": "Oslo"}'),
    ("mistral with arguments", 'weather { "city" : "Oslo" }'),
    ("pythonic", "[weather(city='Oslo')]"),
    ("pythonic", "[ weather(city='Oslo') ]"),
    ("call expression", "call:weather{city='Oslo'}"),
]
"""Outputs that make the labelled call, with different white space, order of keys and ids."""
MANUAL = "See [the manual](https://x.example)."
CALL = ToolCall(function=FunctionCall(name="weather", arguments={"city": "Oslo"}))
METRIC = TaskMetric(name="tool_calls", min="0.5")


def tokenizer_of(style: str) -> PreTrainedTokenizerBase:
    tokenizer = tokenizer_for(CHAT.replace("EACH", TEMPLATES[style]))
    tokenizer.add_tokens(["[TOOL_CALLS]", "[ARGS]"], special_tokens=True)
    return tokenizer


def rows(prose: str) -> list[Row]:
    """Return a row with a tool call, and one with the answer ``prose``."""
    prompt = [Message(role="user", content="cold?")]
    return [
        Row(id="calls", prompt=prompt, completion="", tool_calls=[CALL]),
        Row(id="prose", prompt=prompt, completion=prose),
    ]


def outcomes(tokenizer: PreTrainedTokenizerBase, outputs: list[str], prose: str = MANUAL) -> list[str]:
    """Return the outcomes of outputs for the row with a tool call, and for the one without."""
    given = rows(prose)
    references = task_references(tokenizer, given, METRIC, None)
    samples = [Sample("", *each) for each in zip(outputs, references, given, strict=True)]
    return [score.outcome for score in SCORERS["tool_calls"].score(samples)]


@pytest.mark.parametrize("style", TEMPLATES)
def test_labelled_answers_of_each_template_style_pass(style):
    tokenizer = tokenizer_of(style)
    answers = [labelled_answer(tokenizer, row) for row in rows(MANUAL)]
    assert outcomes(tokenizer, answers) == [PASS, PASS]


@pytest.mark.parametrize(
    ("style", "prose"),
    [
        ("mistral", 'Send [{"id": 7}], see [1] and {x}.'),
        ("llama json", 'Use {"city": "Oslo"}, see {x}.'),
        ("pythonic", "f(x) is in [1, 2], see [1](https://x.example)."),
        ("mistral with arguments", 'The body: {"city": "Oslo"}'),
        ("call expression", "call: it is {cold}."),
        ("hermes", '{"name": "weather", "arguments": {}} is a call.'),
    ],
)
def test_prose_with_brackets_is_not_a_tool_call(style, prose):
    tokenizer = tokenizer_of(style)
    assert outcomes(tokenizer, [prose, prose], prose) == [FAIL, PASS]


@pytest.mark.parametrize(("style", "output"), SAME_CALLS)
def test_call_in_another_format_is_found_after_text(style, output):
    tokenizer = tokenizer_of(style)
    for text in (output, f"As noted in [1]: {output}"):
        assert outcomes(tokenizer, [text, text]) == [PASS, FAIL]


@pytest.mark.parametrize(("style", "output"), SAME_CALLS)
def test_broken_call_does_not_pass_a_row_without_calls(style, output):
    broken = output[: output.index("Oslo")]
    assert outcomes(tokenizer_of(style), [broken, broken]) == [FAIL, FAIL]


@pytest.mark.parametrize(
    ("style", "output"),
    [
        ("llama json", '{"type": "function", "name": "weather", "parameters": {}}'),
        ("llama json", "{'name': 'weather', 'parameters': {}}"),
        ("mistral", '{"name": "weather", "arguments": {}}'),
        ("mistral", '[{"name": "weather", "parameters": {}}]'),
        ("pythonic", "[clock(), weather()]"),
    ],
)
def test_call_of_a_usual_other_form_does_not_pass_as_prose(style, output):
    assert outcomes(tokenizer_of(style), [output, output]) == [FAIL, FAIL]


@pytest.mark.parametrize(("style", "output"), SAME_CALLS)
def test_call_of_another_function_fails(style, output):
    other = output.replace("weather", "clock")
    assert outcomes(tokenizer_of(style), [other, other]) == [FAIL, FAIL]


@pytest.mark.parametrize("name", ["deepseekv3", "gemma4", "gptoss", "lfm2_2_5", "llama3_1", "muse_glimmer"])
def test_prose_is_not_a_call_if_all_tokens_of_calls_are_special(name):
    tokenizer = tokenizer_for(model_templates()[name], kept=["think"])
    prose = 'These functions call [f](https://x.example): to="home".'
    right = labelled_answer(tokenizer, rows(prose)[0])
    assert outcomes(tokenizer, [right, prose], prose) == [PASS, PASS]
    assert outcomes(tokenizer, [prose, right], prose) == [FAIL, FAIL]
