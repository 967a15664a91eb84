"""Trained completions: they equal the text that the template renders, and servers parse them as the
answer."""

from functools import cache

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from trl.chat_template_utils import add_response_schema, parse_response

from support.model_templates import model_templates, tokenizer_for
from support.tiny_model import make_tokenizer
from tunegate_api.messages import FunctionCall, Message, ToolCall
from tunegate_api.verdict.outcomes import FAIL, PASS
from tunegate_trainer.graders import Sample
from tunegate_trainer.graders.table import GRADERS
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.tokens.answers import answer_after, calls_text, example_tokens
from tunegate_trainer.tokens.chat import (
    apply_template,
    render,
    stop_token_ids,
    with_arguments,
    without_special_tokens,
)
from tunegate_trainer.tokens.reasoning import reasoning_marks, without_reasoning
from tunegate_trainer.tokens.rows import Row

TEMPLATES = model_templates()
QUESTION = [Message(role="user", content="mug to Oslo?")]
CHAT = [*QUESTION, Message(role="assistant", content="yes"), Message(role="user", content="and 2 lamps?")]
SYSTEM = [Message(role="system", content="be brief"), *QUESTION]
ANSWER = Message(role="assistant", content="please send 2")
REASONED = ANSWER.model_copy(update={"reasoning_content": "they order lamps"})
OPENS_REASONING = {"deepseek_r1_distill", "deepseekv3", "nemotron_3_5_lightning", "nemotron_3_nano"}
OPENS_REASONING |= {"nemotron_3_super", "nemotron_3_ultra"}
"""Templates whose prompts open reasoning, although the rendered answers have no reasoning or other white
space."""
PARSED_BY_TRL = [
    *("deepseek_r1_distill", "gemma4", "gemma4_v5", "glm4moe", "gptoss", "lfm2_2_5", "llama3_1"),
    *("nemotron_3_5_lightning", "nemotron_3_nano", "nemotron_3_super", "nemotron_3_ultra", "qwen2_5"),
    *("qwen3", "qwen3_5_nothink", "qwen3_5_think", "qwen3_6", "qwen3_8", "qwen3_instruct_2507"),
]
CALL_TOOLS = [
    *("gemma4", "gemma4_v5", "glm4moe", "gptoss", "lfm2_2_5", "llama3_1", "nemotron_3_5_lightning"),
    *("nemotron_3_nano", "nemotron_3_super", "nemotron_3_ultra", "qwen2_5", "qwen3", "qwen3_5_nothink"),
    *("qwen3_5_think", "qwen3_6", "qwen3_8", "qwen3_instruct_2507"),
]
WEATHER = {"name": "weather", "arguments": {"city": "Oslo", "days": 2}}
CALL = Message.model_validate({"role": "assistant", "tool_calls": [{"id": "call_0001", "function": WEATHER}]})
BOTH = CALL.model_copy(update={"tool_calls": [*(CALL.tool_calls or ()), *(CALL.tool_calls or ())]})
PARAMETERS = {
    "city": {"type": "string", "description": "where"},
    "days": {"type": "integer", "description": "how many"},
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather",
            "parameters": {"type": "object", "properties": PARAMETERS, "required": ["city"]},
        },
    }
]
NO_REASONING = {"gemma4", "llama3_1", "qwen2_5", "qwen3_instruct_2507", "qwen3_5_nothink"}


@cache
def tokenizer_of(name: str) -> PreTrainedTokenizerBase:
    return tokenizer_for(TEMPLATES[name])


@pytest.mark.parametrize("prompt", [QUESTION, CHAT, SYSTEM], ids=["question", "chat", "system"])
@pytest.mark.parametrize("name", sorted(TEMPLATES.keys() - OPENS_REASONING))
def test_prompt_and_answer_equal_the_rendered_chat(name, prompt):
    tokenizer = tokenizer_of(name)
    if name == "gemma" and prompt is SYSTEM:
        with pytest.raises(UserError, match="System role not supported"):
            render(tokenizer, prompt)
        return
    answer = answer_after(tokenizer, prompt, ANSWER)
    whole = apply_template(tokenizer, [*prompt, ANSWER], add_generation_prompt=False)
    trained = render(tokenizer, prompt) + answer.text
    assert whole.startswith(trained)
    # After the last answer, some templates do not end the turn, or also end the chat.
    after = whole[len(trained) :]
    assert after.startswith(answer.end) or not after.strip()
    assert after.removeprefix(answer.end).strip() in ("", "<eos>")


@pytest.mark.parametrize("answer", [ANSWER, REASONED], ids=["answer", "with reasoning"])
@pytest.mark.parametrize("name", PARSED_BY_TRL)
def test_trl_parses_the_trained_completion_as_the_answer(name, answer):
    tokenizer = add_response_schema(tokenizer_of(name))
    prompt, completion = example_tokens(tokenizer, CHAT, answer)
    parsed = parse_response(tokenizer, completion, prefix=prompt)
    assert parsed["content"].strip() == answer.content
    reasoning = answer.reasoning_content if name not in NO_REASONING else None
    assert (parsed.get("reasoning_content") or parsed.get("thinking") or "").strip() == (reasoning or "")


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_reasoning_is_removed_from_an_output(name):
    tokenizer = tokenizer_of(name)
    marks = reasoning_marks(tokenizer)
    answer = answer_after(tokenizer, QUESTION, REASONED)
    if marks is None:
        assert not answer.has_reasoning
        return
    assert without_reasoning(marks, render(tokenizer, QUESTION), answer.text).strip() == ANSWER.content


@pytest.mark.parametrize("name", ["qwen3", "qwen3_5_nothink", "gemma4", "gptoss"])
def test_answer_that_opens_no_reasoning_keeps_a_closing_delimiter(name):
    tokenizer = tokenizer_of(name)
    marks = reasoning_marks(tokenizer)
    assert marks is not None
    output = f"{marks.skipped}no{marks.closes}yes"
    read = without_reasoning(marks, render(tokenizer, QUESTION), output)
    assert read == output.removeprefix(marks.skipped)


def test_opening_delimiter_in_a_question_opens_no_reasoning():
    tokenizer = tokenizer_of("qwen3")
    marks = reasoning_marks(tokenizer)
    assert marks is not None
    prompt = render(tokenizer, [Message(role="user", content="What is <think>?")])
    assert without_reasoning(marks, prompt, "a tag</think>") == "a tag</think>"


@pytest.mark.parametrize("name", ["qwen3", "deepseek_r1_distill"])
def test_output_after_unknown_prompt_is_cut_at_closing_delimiter(name):
    """A server may have removed the reasoning that its prompt opened, or only the opening delimiter."""
    marks = reasoning_marks(tokenizer_of(name))
    assert marks is not None
    reads = [without_reasoning(marks, None, each) for each in ("so</think>yes", "yes", "<think>so")]
    assert reads == ["yes", "yes", ""]


@pytest.mark.parametrize(("name", "thinks"), [("qwen3", True), ("qwen3_6", True), ("qwen3_6", False)])
def test_reasoning_turned_off_by_an_argument_is_not_trained_on(name, thinks):
    tokenizer = tokenizer_for(with_arguments(TEMPLATES[name], {"enable_thinking": thinks}))
    answer = answer_after(tokenizer, QUESTION, REASONED)
    assert answer.has_reasoning == thinks
    assert ("they order lamps" in answer.text) == thinks
    given = tokenizer_of(name).apply_chat_template(
        [message.model_dump(exclude_none=True) for message in QUESTION],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=thinks,
    )
    assert render(tokenizer, QUESTION) == given


def test_inline_and_separate_reasoning_give_the_same_training_text():
    tokenizer = tokenizer_of("deepseek_r1_distill")
    inline = Message(role="assistant", content="<think>\nthey order lamps\n</think>\n\nplease send 2")
    assert answer_after(tokenizer, QUESTION, inline) == answer_after(tokenizer, QUESTION, REASONED)


HISTORIES = {
    # Like DeepSeek V3.1, which also closes the reasoning in the history.
    "closed in the history": "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}"
    "{% else %}"
    "<|assistant|></think>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>{% endif %}",
    # Like ERNIE, which also marks the answer.
    "named in the history": "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}"
    "{% else %}"
    "<|assistant|>\n{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
    "<response>\n{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n<think>\n{% endif %}",
}


@pytest.mark.parametrize("answer", [ANSWER, REASONED], ids=["answer", "with reasoning"])
@pytest.mark.parametrize("name", HISTORIES)
def test_reasoning_delimiter_added_by_the_template_occurs_once_in_answer(name, answer):
    tokenizer = tokenizer_for(HISTORIES[name])
    text = answer_after(tokenizer, QUESTION, answer).text
    marks = reasoning_marks(tokenizer)
    assert marks is not None
    assert without_reasoning(marks, render(tokenizer, QUESTION), text).strip() == ANSWER.content
    assert (text.count("</think>"), text.count("<response>")) == (1, marks.closes.count("<response>"))


def test_answer_has_no_reasoning_if_the_prompt_ends_the_reasoning():
    template = HISTORIES["named in the history"].replace(
        "\n<think>\n{%", "\n<think>\n\n</think>\n\n<response>\n{%"
    )
    tokenizer = tokenizer_for(template)
    assert render(tokenizer, QUESTION).endswith("<think>\n\n</think>\n\n<response>\n")
    assert answer_after(tokenizer, QUESTION, ANSWER).text == ANSWER.content


MENTIONS = Message(role="assistant", content="write </think> to close it")


@pytest.mark.parametrize("name", ["lfm2_2_5", "llama3"])
def test_answer_with_delimiter_is_kept_if_the_template_does(name):
    assert answer_after(tokenizer_of(name), QUESTION, MENTIONS).text == MENTIONS.content


@pytest.mark.parametrize("name", ["qwen3", "qwen3_5_nothink"])
def test_answer_with_delimiter_is_refused_if_template_cuts_it(name):
    with pytest.raises(UserError, match="does not render the answer after the prompt"):
        answer_after(tokenizer_of(name), QUESTION, MENTIONS)


def test_answer_that_starts_like_its_reasoning_has_none():
    tokenizer = tokenizer_for(with_arguments(TEMPLATES["qwen3"], {"enable_thinking": False}))
    same = Message(role="assistant", content="yes, please", reasoning_content="yes")
    assert not answer_after(tokenizer, QUESTION, same).has_reasoning


@pytest.mark.parametrize("prompt", [QUESTION, [*QUESTION, CALL]])
def test_model_without_a_chat_template_refuses_tools(prompt):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="the chat has tools, but the model has no chat template"):
        render(tokenizer, prompt, TOOLS)
    with pytest.raises(UserError, match="the chat has tools, but the model has no chat template"):
        answer_after(tokenizer, QUESTION, CALL)


def test_template_argument_may_have_any_character():
    value = 'é 😀 "%} {{ \\ \n'
    tokenizer = make_tokenizer()
    tokenizer.chat_template = with_arguments("{{ greeting }}{{ messages[0].content }}", {"greeting": value})
    assert render(tokenizer, QUESTION) == f"{value}mug to Oslo?"


def test_chat_without_its_prompt_gives_error_with_both_texts():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>bot: {% endif %}"
    )
    with pytest.raises(UserError) as refused:
        answer_after(tokenizer, QUESTION, ANSWER)
    assert "the prompt is …'to Oslo?<|im_end|><|im_start|>bot: '" in str(refused.value)
    assert "'to Oslo?<|im_end|><|im_start|>assistant: please send 2<|im_end|>'" in str(refused.value)


@pytest.mark.parametrize("name", CALL_TOOLS)
def test_trl_parses_the_trained_completion_as_the_tool_call(name):
    tokenizer = add_response_schema(tokenizer_of(name))
    prompt, completion = example_tokens(tokenizer, QUESTION, CALL, TOOLS)
    parsed = parse_response(tokenizer, completion, prefix=prompt, tools=TOOLS)
    assert [call["function"] for call in parsed["tool_calls"]] == [WEATHER]


@pytest.mark.parametrize("name", CALL_TOOLS)
def test_tool_result_is_in_the_prompt_before_the_answer(name):
    tokenizer = tokenizer_of(name)
    result = Message(role="tool", content="-3 C", tool_call_id="call_0001", name="weather")
    prompt = [*QUESTION, CALL, result]
    assert "-3 C" in render(tokenizer, prompt, TOOLS)
    assert ANSWER.content in answer_after(tokenizer, prompt, ANSWER, TOOLS).text


@pytest.mark.parametrize("name", CALL_TOOLS)
@pytest.mark.parametrize("reasoning", [None, "they ask"])
def test_tool_call_as_trained_passes_the_tool_calls_equal_scorer(name, reasoning):
    tokenizer = tokenizer_of(name)
    call = CALL.model_copy(update={"reasoning_content": reasoning})
    marks, seen = reasoning_marks(tokenizer), answer_after(tokenizer, QUESTION, call, TOOLS).text
    if marks is not None:
        seen = without_reasoning(marks, render(tokenizer, QUESTION, TOOLS), seen)
    reference = calls_text(tokenizer, QUESTION, CALL.tool_calls or [], TOOLS)
    other = [ToolCall(function=FunctionCall(name="weather"))]
    outputs = [without_special_tokens(tokenizer, seen), calls_text(tokenizer, QUESTION, other, TOOLS)]
    row = Row(id="row", prompt=QUESTION, completion="", tool_calls=CALL.tool_calls)
    scores = GRADERS["tool_calls_equal"].score([Sample("", text, reference, row) for text in outputs])
    assert [score.outcome for score in scores] == [PASS, FAIL]


@pytest.mark.parametrize("name", CALL_TOOLS)
def test_generation_stops_at_the_end_of_a_trained_tool_call(name):
    tokenizer = tokenizer_of(name)
    _, completion = example_tokens(tokenizer, QUESTION, CALL, TOOLS)
    stops = stop_token_ids(tokenizer, GenerationConfig())
    assert [i for i, token in enumerate(completion) if token in stops] == [len(completion) - 1]


@pytest.mark.parametrize("name", CALL_TOOLS)
def test_two_tool_calls_are_both_trained_on_or_refused(name):
    tokenizer = tokenizer_of(name)
    if name in ("gptoss", "llama3_1"):
        with pytest.raises(UserError):
            answer_after(tokenizer, QUESTION, BOTH, TOOLS)
    else:
        assert answer_after(tokenizer, QUESTION, BOTH, TOOLS).text.count("Oslo") == 2


@pytest.mark.parametrize("name", CALL_TOOLS)
def test_tool_result_may_be_json(name):
    result = Message(role="tool", content='{"temp": -3}', tool_call_id="call_0001", name="weather")
    assert "temp" in render(tokenizer_of(name), [*QUESTION, CALL, result], TOOLS)


@pytest.mark.parametrize(
    ("tools", "problem"),
    [(TOOLS, "does not render the tools of a chat"), (None, "does not render the results of tools")],
)
def test_chat_template_without_tool_support_refuses_tools_and_results(tools, problem):
    prompt = [*QUESTION, CALL, Message(role="tool", content="-3 C", tool_call_id="call_0001")]
    with pytest.raises(UserError, match=problem):
        render(tokenizer_of("phi3"), prompt, tools)


def test_tool_call_dropped_by_the_template_is_refused():
    with pytest.raises(UserError, match="does not render the answer after the prompt"):
        answer_after(tokenizer_of("llama3"), QUESTION, CALL)


def sentencepiece_tokenizer() -> PreTrainedTokenizerBase:
    """Return a tokenizer that puts a space before every text, like that of Llama 2."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    special = ["<unk>", "<s>", "</s>"]
    corpus = ["mug to Oslo? please send 2 [INST] [/INST] yes and lamps?", "USER: ASSISTANT: be brief"]
    tokenizer.train_from_iterator(corpus, trainers.BpeTrainer(special_tokens=special, show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", bos_token="<s>")


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]"
        "{% else %}{{ m.content }}</s>{% endif %}{% endfor %}",
        "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}",
    ],
    ids=["no space before the answer", "space before the answer"],
)
def test_completion_tokens_add_no_space_to_the_rendered_text(template):
    tokenizer = sentencepiece_tokenizer()
    tokenizer.chat_template = template
    prompt, completion = example_tokens(tokenizer, QUESTION, ANSWER)
    assert prompt == tokenizer.encode(render(tokenizer, QUESTION), add_special_tokens=False)
    whole = apply_template(tokenizer, [*QUESTION, ANSWER], add_generation_prompt=False)
    assert tokenizer.decode(prompt + completion) == whole
