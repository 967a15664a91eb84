"""The task metric tool_calls finds the start of tool calls of each style of chat templates."""

import time

import pytest
from transformers import PreTrainedTokenizerBase

from support.model_templates import model_templates, tokenizer_for
from tunegate_api.messages import FunctionCall, Message, ToolCall
from tunegate_api.v1alpha2.finetunejob import TaskMetric
from tunegate_api.verdict.outcomes import FAIL, PASS
from tunegate_trainer.evaluate.references import task_references
from tunegate_trainer.graders.grader import Sample
from tunegate_trainer.graders.table import METRICS
from tunegate_trainer.tokens.answers import labelled_answer
from tunegate_trainer.tokens.rows import Row

CHAT = (
    "{{ tools | tojson if tools }}"
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
    "deepseek": "[TOOL_CALLS]function[ARGS]{{ call.function.name }}\n```json\n" + ARGUMENTS + "\n```",
    "lines": "\n[TOOL_CALLS]{{ call.function.name }}\n" + KEYWORDS + "\n",
    "name as key": '{"{{ call.function.name }}": ' + ARGUMENTS + "}",
    "argument tags": "[TOOL_CALLS]{{ call.function.name }}\n<tool_arg>" + KEYWORDS + "</tool_arg>",
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
    ("deepseek", 'functionweather\n```json\n{"city": "Oslo"}\n```'),
    ("name as key", '{"weather": {"city": "Oslo"}}'),
    ("name as key", '{ "weather": {"city": "Oslo"} }'),
    ("argument tags", "weather\n<tool_arg>city='Oslo'</tool_arg>"),
    ("argument tags", "weather <tool_arg> city='Oslo' </tool_arg>"),
    ("lines", "\nweather\ncity='Oslo'"),
]
"""Outputs that make the labelled call, with different white space, order of keys and ids."""
MANUAL = "See [the manual](https://x.example)."
METRIC = TaskMetric(name="tool_calls", type="ToolCalls", min="50%")


def tokenizer_of(style: str) -> PreTrainedTokenizerBase:
    tokenizer = tokenizer_for(CHAT.replace("EACH", TEMPLATES[style]))
    tokenizer.add_tokens(["[TOOL_CALLS]", "[ARGS]"], special_tokens=True)
    return tokenizer


def rows(prose: str, function: str = "weather", tools: list[str] | None = None) -> list[Row]:
    """Return a row with a call of ``function`` and one with the answer ``prose``. Both have the ``tools``."""
    prompt = [Message(role="user", content="cold?")]
    call = ToolCall(function=FunctionCall(name=function, arguments={"city": "Oslo"}))
    definitions = [{"type": "function", "function": {"name": name}} for name in tools or ()] or None
    return [
        Row(id="calls", prompt=prompt, completion="", tool_calls=[call], tools=definitions),
        Row(id="prose", prompt=prompt, completion=prose, tools=definitions),
    ]


def outcomes_for(tokenizer: PreTrainedTokenizerBase, given: list[Row], outputs: list[str]) -> list[str]:
    references = task_references(tokenizer, given, METRIC, None)
    samples = [Sample("", *each) for each in zip(outputs, references, given, strict=True)]
    return [score.outcome for score in METRICS["ToolCalls"].score(samples)]


def outcomes(tokenizer: PreTrainedTokenizerBase, outputs: list[str], prose: str = MANUAL) -> list[str]:
    """Return the outcomes of outputs for the row with a call of ``weather``, and for the one without."""
    return outcomes_for(tokenizer, rows(prose), outputs)


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
        ("llama json", '{"name": "Ana", "age": 3}'),
        ("mistral", 'The schema is {"type": "object", "name": "Person"}.'),
        ("mistral with arguments", "The weather {cold} is bad."),
        ("call expression", "call:weathering is slow."),
        ("pythonic", "f(x) is in [1, 2], see [1](https://x.example)."),
        ("mistral with arguments", 'The body: {"city": "Oslo"}'),
        ("mistral with arguments", 'Send {"city": "Oslo"} for the weather.'),
        ("mistral with arguments", r"class Foo { int x; } has \frac{1}{2} of interface{}, \phi{} in f{x}."),
        ("mistral with arguments", 'string s{"a"}; []string{"a"}; body{color: red}'),
        ("call expression", "call: it is {cold}."),
        ("call expression", "call:it {cold}."),
        (
            "pythonic",
            "See [f(x)](https://x.example) and [main()](https://x.example): [sin(0), 1] has [g(x) = 2].",
        ),
        ("deepseek", "The functions `map` and `filter`, and the function `weather`."),
        ("deepseek", 'These are functions:\n```json\n{"city": "Oslo"}\n```'),
        ("lines", "Let me look.\nThe weather\nweather in Oslo:\nclock\nzone='Oslo'"),
        ("argument tags", "weather and clock\n<b>cold</b>"),
        ("hermes", '{"name": "weather", "arguments": {}} is a call.'),
    ],
)
def test_prose_with_brackets_is_not_a_tool_call(style, prose):
    tokenizer = tokenizer_of(style)
    assert outcomes(tokenizer, [prose, prose], prose) == [FAIL, PASS]


@pytest.mark.parametrize(("style", "output"), SAME_CALLS)
def test_call_in_another_format_is_found_after_text(style, output):
    tokenizer = tokenizer_of(style)
    for text in (output, f"As noted in [1]: {output}", f"As noted.{output}"):
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
        ("pythonic", "[clock(zone='Oslo'), weather()]"),
        ("pythonic", "[clock()]"),
        ("mistral with arguments", "clock{}"),
        ("mistral with arguments", 'Done.clock{"zone": "Oslo"}'),
        ("mistral with arguments", 'time.zone/clock{"zone": "Oslo"}'),
        ("call expression", "call:weather (city='Oslo')"),
        ("call expression", "call:time.zone/clock{zone='Oslo'}"),
        ("deepseek", "functionclock\n```json\n{}\n```"),
    ],
)
def test_call_in_another_usual_form_is_not_prose(style, output):
    assert outcomes(tokenizer_of(style), [output, output]) == [FAIL, FAIL]


@pytest.mark.parametrize(("style", "output"), SAME_CALLS)
def test_call_of_another_function_fails(style, output):
    other = output.replace("weather", "clock")
    found = rows(MANUAL, tools=["weather", "clock"])
    assert outcomes_for(tokenizer_of(style), found, [other, other]) == [FAIL, FAIL]


@pytest.mark.parametrize(
    ("style", "output"),
    [case for case in SAME_CALLS if case[0] != "lines" and "weather {" not in case[1]],
)
def test_call_of_a_function_that_no_row_has_fails(style, output):
    other = output.replace("weather", "clock")
    assert outcomes(tokenizer_of(style), [other, other]) == [FAIL, FAIL]


NAMES = [
    ("mail.create", "calendar.create"),
    ("ns/get", "other/get"),
    ("ns:get", "other:get"),
    ("a b(c)", "b(c)"),
]


@pytest.mark.parametrize(("name", "other"), NAMES)
@pytest.mark.parametrize("style", TEMPLATES)
def test_call_with_any_text_as_name_needs_whole_name(style, name, other):
    tokenizer, given = tokenizer_of(style), rows(MANUAL, name)
    right, prose = (labelled_answer(tokenizer, row) for row in given)
    wrong = right.replace(name, other)
    assert wrong != right
    assert outcomes_for(tokenizer, given, [right, prose]) == [PASS, PASS]
    assert outcomes_for(tokenizer, given, [f"As noted in [1]:\n{right}", right]) == [PASS, FAIL]
    assert outcomes_for(tokenizer, given, [wrong, prose]) == [FAIL, PASS]


def test_longest_known_name_is_the_name_of_a_call():
    tokenizer, given = (
        tokenizer_of("mistral with arguments"),
        rows(MANUAL, "create", ["create", "create-all"]),
    )
    assert outcomes_for(tokenizer, given, ['create-all{"city": "Oslo"}'] * 2) == [FAIL, FAIL]
    assert outcomes_for(tokenizer, given, ['create{"city": "Oslo"}'] * 2) == [PASS, FAIL]


@pytest.mark.parametrize("style", TEMPLATES)
def test_time_to_score_long_repetitive_output_is_linear(style):
    tokenizer = tokenizer_of(style)
    repeated = [
        "a",
        "\n",
        "{",
        "[",
        "[ ",
        "call:",
        "function",
        "function-",
        'a{"',
        "[a(",
        "weather ",
        "weather\n",
    ]
    for text in repeated:
        long = (text * 64_000)[:64_000]
        started = time.process_time()
        outcomes(tokenizer, [long, long])
        assert time.process_time() - started < 2, text  # quadratic time would be more than 30 s


PUBLIC = ["deepseekv3", "gemma4", "glm4moe", "gptoss", "lfm2_2_5", "llama3_1", "muse_glimmer", "qwen3"]


@pytest.mark.parametrize("kept", [["think"], ["think", "arg"], ["think", "tool"]])
@pytest.mark.parametrize("name", PUBLIC)
def test_prose_is_not_a_call_with_public_templates(name, kept):
    """The tokens of calls are special tokens if their names have none of the words ``kept``."""
    tokenizer = tokenizer_for(model_templates()[name], kept=kept)
    prose = (
        'The functions `map` and `filter` call [f](https://x.example), [f(x)](https://x.example): to="home".'
    )
    right = labelled_answer(tokenizer, rows(prose)[0])
    assert outcomes(tokenizer, [right, prose], prose) == [PASS, PASS]
    assert outcomes(tokenizer, [prose, right], prose) == [FAIL, FAIL]
    assert outcomes(tokenizer, [f"Let me look.\n{right}", prose], prose) == [PASS, PASS]
