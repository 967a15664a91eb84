"""Recognizing the shape of rows and pairs, and reading each shape."""

import json
from typing import Any

import pytest

from support.records import records_of
from tunegate_api.messages import Message
from tunegate_api.v1alpha2.data import Columns
from tunegate_trainer.data.parse import parse_pairs, parse_rows
from tunegate_trainer.data.shapes import PAIR_SHAPES, ROW_SHAPES
from tunegate_trainer.tokens.rows import Pair, Row

PLAIN = Columns()
PAIR_OF_TEXT = {"chosen": "4", "rejected": "5"}
WEATHER = {"name": "weather", "description": "The weather", "parameters": {"type": "object"}}
CALL = {"name": "weather", "arguments": {"city": "Oslo"}}


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def said(author: str, value: str) -> dict[str, str]:
    return {"from": author, "value": value}


ASKED = [message("user", "2 + 2?")]
ANSWERED = {"messages": [*ASKED, message("assistant", "4")]}
SHAREGPT = {"conversations": [said("human", "2 + 2?"), said("gpt", "4")]}
ROWS: dict[str, list[dict[str, Any]]] = {
    "prompt/completion": [{"prompt": "2 + 2?", "completion": "4"}],
    "OpenAI chat": [
        ANSWERED,
        {**ANSWERED, "tools": [], "parallel_tool_calls": False},
        {"conversations": ANSWERED["messages"]},
    ],
    "ShareGPT": [
        SHAREGPT,
        {"conversations": [said("user", "2 + 2?"), said("assistant", "4")], "tools": "[]", "system": ""},
        {"messages": SHAREGPT["conversations"]},
    ],
    "Alpaca": [
        {"instruction": "2 + 2?", "output": "4"},
        {"instruction": "2 + 2?", "input": "", "output": "4", "system": "", "history": []},
    ],
}
"""Rows with the prompt "2 + 2?" and the answer "4", by the name of their shape."""
CHATS = {name: [*ASKED, message("assistant", text)] for name, text in PAIR_OF_TEXT.items()}
PAIRS: dict[str, list[dict[str, Any]]] = {
    "prompt/chosen/rejected": [{"prompt": "2 + 2?", **PAIR_OF_TEXT}],
    "OpenAI DPO": [
        {
            "input": {"messages": ASKED, "tools": [], "parallel_tool_calls": True},
            "preferred_output": [message("assistant", "4")],
            "non_preferred_output": [message("assistant", "5")],
        }
    ],
    "ShareGPT preference": [
        {
            "conversations": [said("human", "2 + 2?")],
            "chosen": said("gpt", "4"),
            "rejected": said("gpt", "5"),
        },
        {"conversations": [said("human", "2 + 2?")], **PAIR_OF_TEXT},
    ],
    "chosen/rejected chats": [
        CHATS,
        {**CHATS, "prompt": "2 + 2?", "prompt_id": "a", "messages": CHATS["chosen"], "score_chosen": 8.5},
        {**CHATS, "prompt": ASKED},
    ],
    "Alpaca preference": [{"instruction": "2 + 2?", "input": "", **PAIR_OF_TEXT}],
}


def row(fields: dict[str, Any], columns: Columns = PLAIN) -> Row:
    parsed = parse_rows(records_of(fields), columns, None)
    assert parsed.bad == []
    return parsed.rows[0].row


def pair(fields: dict[str, Any]) -> Pair:
    parsed = parse_pairs(records_of(fields), PLAIN, None)
    assert parsed.bad == []
    return parsed.rows[0].row


def texts(messages: list[Message]) -> list[tuple[str, str]]:
    return [(one.role, one.content) for one in messages]


def bad_row(fields: dict[str, Any]) -> str:
    (problem,) = parse_rows(records_of(fields), PLAIN, None).bad
    return problem.reason


def test_every_shape_is_tested():
    assert set(ROWS) == {shape.name for shape in ROW_SHAPES}
    assert set(PAIRS) == {shape.name for shape in PAIR_SHAPES}


@pytest.mark.parametrize(("shape", "fields"), [(shape, one) for shape, rows in ROWS.items() for one in rows])
def test_shape_of_rows_is_recognized(shape, fields):
    parsed = parse_rows(records_of(fields), PLAIN, None)
    assert (parsed.shape, parsed.bad) == (shape, [])
    assert texts(parsed.rows[0].row.prompt) == [("user", "2 + 2?")]
    assert parsed.rows[0].row.completion == "4"


@pytest.mark.parametrize(
    ("shape", "fields"), [(shape, one) for shape, pairs in PAIRS.items() for one in pairs]
)
def test_shape_of_pairs_is_recognized(shape, fields):
    parsed = parse_pairs(records_of(fields), PLAIN, None)
    assert (parsed.shape, parsed.bad) == (shape, [])
    found = parsed.rows[0].row
    assert texts(found.prompt) == [("user", "2 + 2?")]
    assert (found.chosen, found.rejected) == ("4", "5")


@pytest.mark.parametrize("first", ROWS)
@pytest.mark.parametrize("second", ROWS)
def test_row_of_another_shape_than_the_first_row_is_bad(first, second):
    parsed = parse_rows(records_of(ROWS[first][0], {**ROWS[second][0], "id": "b"}), PLAIN, None)
    reasons = [problem.reason for problem in parsed.bad]
    assert reasons == [f"the row has the shape {second}, but the first row has the shape {first}"] * (
        first != second
    )
    assert parsed.shape == first


def test_rows_of_preference_data_are_refused_as_training_rows():
    reason = "the row has the shape OpenAI DPO, but only these are supported here: OpenAI chat, ShareGPT, "
    assert bad_row(PAIRS["OpenAI DPO"][0]).startswith(reason)


def test_chat_is_refused_as_a_pair():
    (problem,) = parse_pairs(records_of(ANSWERED), PLAIN, None).bad
    assert problem.reason.startswith("the row has the shape OpenAI chat, but only these are supported here")


def test_source_without_a_known_shape_has_none():
    assert parse_rows(records_of({"a": 1}), PLAIN, None).shape == ""


@pytest.mark.parametrize(
    ("fields", "columns"),
    [
        ({"instruction": "2 + 2?", "output": "4"}, Columns(prompt="instruction", completion="output")),
        ({"dialog": SHAREGPT["conversations"]}, Columns(messages="dialog")),
        ({"dialog": ANSWERED["messages"], "prompt": "x"}, Columns(messages="dialog")),
        ({"instruction": "2 + 2?", "prompt": "2 + 2?", "completion": "4"}, PLAIN),
        ({"conversations": [], "prompt": "2 + 2?", "completion": "4"}, PLAIN),
        ({"instruction": "2 + 2?", "answer": "4", "output": "5"}, Columns(completion="answer")),
    ],
)
def test_columns_and_usual_names_come_before_other_shapes(fields, columns):
    assert row(fields, columns).completion == "4"


def test_row_without_the_named_prompt_is_not_read_as_alpaca():
    columns = Columns(prompt="question", completion="answer")
    (problem,) = parse_rows(records_of({"instruction": "2 + 2?", "answer": "4"}), columns, None).bad
    assert problem.reason == "question is missing; the fields here are: answer, instruction"


# Alpaca


def test_alpaca_prompt_has_system_history_instruction_and_input():
    found = row(
        {
            "instruction": "Add.",
            "input": "2, 2",
            "output": "4",
            "system": "Be brief.",
            "history": [["Hello", "Hi"]],
        }
    )
    assert texts(found.prompt) == [
        ("system", "Be brief."),
        ("user", "Hello"),
        ("assistant", "Hi"),
        ("user", "Add.\n2, 2"),
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"instruction": ""}, "instruction is empty"),
        ({"output": None}, "output must be a string, but it is null"),
        ({"input": ["x"]}, "input must be a string, but it is a list"),
        ({"history": "x"}, "history must be a list of [instruction, output], but it is a string"),
        ({"history": [["x"]]}, "history[0] must be [instruction, output], but it is a list"),
        ({"history": [["x", 1]]}, "history[0][1] must be a string, but it is a number"),
        ({"tools": [WEATHER]}, "the row has fields that its format does not support: tools"),
    ],
)
def test_bad_alpaca_row_is_reported_with_its_reason(changes, reason):
    assert bad_row({"instruction": "2 + 2?", "output": "4", **changes}) == reason


# ShareGPT


SYSTEM = [("system", "Be brief."), ("user", "2 + 2?")]


@pytest.mark.parametrize("name", ROWS)
def test_system_field_of_any_row_shape_is_first_turn(name):
    assert texts(row({**ROWS[name][0], "system": "Be brief."}).prompt) == SYSTEM


@pytest.mark.parametrize("name", PAIRS)
def test_system_field_of_any_pair_shape_is_first_turn(name):
    parsed = parse_pairs(records_of({**PAIRS[name][0], "system": "Be brief."}), PLAIN, None)
    assert [texts(labelled.row.prompt) for labelled in parsed.rows] == [SYSTEM]


@pytest.mark.parametrize(("system", "first"), [("Be  brief. ", "system"), (3, "system"), ("", "system")])
def test_system_field_may_repeat_the_turn_or_be_a_number(system, first):
    turns = [message("system", "Be brief."), *ANSWERED["messages"]]
    assert [turn.role for turn in row({"messages": turns, "system": system}).prompt] == [first, "user"]


def test_system_field_that_columns_name_is_no_system_turn():
    found = row({"system": "2 + 2?", "completion": "4"}, Columns(prompt="system"))
    assert texts(found.prompt) == [("user", "2 + 2?")]


def test_system_field_shifts_the_turns_with_weight_0():
    turns = [
        *ASKED,
        message("assistant", "5") | {"weight": 0},
        message("user", "Sure?"),
        message("assistant", "4"),
    ]
    assert row({"messages": turns, "system": "Be brief."}).unlearned == [2]


def test_alpaca_row_with_a_reasoning_field_is_refused():
    assert "reasoning_content" in bad_row({**ROWS["Alpaca"][0], "reasoning_content": "2 + 2"})


def test_sharegpt_system_field_is_the_first_turn():
    found = row({**SHAREGPT, "system": "Be brief."})
    assert texts(found.prompt) == [("system", "Be brief."), ("user", "2 + 2?")]


def test_sharegpt_turn_with_weight_0_is_not_trained_on():
    turns = [said("human", "a"), {**said("gpt", "b"), "weight": 0}, said("human", "c"), said("gpt", "d")]
    assert row({"conversations": turns}).unlearned == [1]
    assert row({"conversations": turns, "system": "x"}).unlearned == [2]


@pytest.mark.parametrize("tools", [json.dumps([WEATHER]), [{"type": "function", "function": WEATHER}]])
@pytest.mark.parametrize("call", [json.dumps(CALL), json.dumps([CALL])])
def test_sharegpt_tool_calls_are_read(tools, call):
    turns = [said("human", "a"), said("function_call", call), said("observation", "-3"), said("gpt", "cold")]
    found = row({"conversations": turns, "tools": tools})
    assert [one.role for one in found.prompt] == ["user", "assistant", "tool"]
    (made,) = found.prompt[1].tool_calls or []
    assert (made.function.name, made.function.arguments) == ("weather", {"city": "Oslo"})
    assert found.tools == [{"type": "function", "function": WEATHER}]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"conversations": []}, "conversations must be a list of {role, content}, but it is a list"),
        ({"conversations": None}, "conversations must be a list of {role, content}, but it is null"),
        ({"conversations": ["x"]}, "conversations[0] must be {from, value}, but it is a string"),
        (
            {"conversations": [said("bot", "x")]},
            "conversations[0].from must be human, user, gpt, chatgpt, assistant, system, function_call, "
            "observation or tool, but it is 'bot'",
        ),
        ({"conversations": [said("human", "")]}, "conversations[0].value is empty"),
        (
            {"conversations": [said("gpt", "x")], "system": "y"},
            "conversations[0].role must be user here, but it is assistant",
        ),
        (
            {"conversations": [said("human", "x"), said("function_call", "{")]},
            "conversations[1].value must be JSON: Expecting property name enclosed in double quotes: line 1 "
            "column 2 (char 1)",
        ),
        (
            {"conversations": [said("system", "x"), *SHAREGPT["conversations"]], "system": "y"},
            "the row has a field system, but its first turn is another system turn",
        ),
        ({"tools": "x"}, "tools must be JSON: Expecting value: line 1 column 1 (char 0)"),
    ],
)
def test_bad_sharegpt_row_is_reported_with_its_reason(changes, reason):
    assert bad_row({**SHAREGPT, **changes}) == reason


# Preference data


def test_prompt_of_an_openai_pair_may_be_a_chat():
    turns = [message("system", "x"), *ASKED, message("assistant", "4"), message("user", "Sure?")]
    found = pair({**PAIRS["OpenAI DPO"][0], "input": {"messages": turns}})
    assert [one.role for one in found.prompt] == ["system", "user", "assistant", "user"]


def test_prompt_of_a_chat_pair_excludes_the_last_turn():
    turns = [message("system", "x"), *ASKED, message("assistant", "4"), message("user", "Sure?")]
    found = pair({name: [*turns, *chat[1:]] for name, chat in CHATS.items()})
    assert texts(found.prompt) == [(turn["role"], turn["content"]) for turn in turns]
    assert (found.chosen, found.rejected) == ("4", "5")


def test_pair_of_chats_may_have_other_names_of_fields():
    fields = {"question": "2 + 2?", "good": CHATS["chosen"], "bad": CHATS["rejected"]}
    parsed = parse_pairs(records_of(fields), Columns(prompt="question", chosen="good", rejected="bad"), None)
    assert (parsed.shape, parsed.bad) == ("chosen/rejected chats", [])


KTO = {"prompt": "2 + 2?", "completion": "5", "label": False}


def test_preference_row_in_kto_format_is_refused_by_name():
    (problem,) = parse_pairs(records_of(KTO), PLAIN, None).bad
    assert problem.reason.startswith(
        "the row has the format of KTO, {prompt, completion, label}, which is not"
    )


def test_kto_answer_to_avoid_is_not_trained_on():
    assert bad_row(KTO).startswith(
        "label is false: in the format of KTO, the completion is then one to avoid"
    )
    assert row({**KTO, "label": True}).completion == "5"
    assert row({**KTO, "label": "wrong"}).completion == "5"


@pytest.mark.parametrize("label", ["False", "false", " FALSE "])
def test_label_of_kto_may_be_text_as_in_csv(label):
    assert bad_row({**KTO, "label": label}).startswith("label is false: in the format of KTO")
    assert row({**KTO, "label": "True"}).completion == "5"


@pytest.mark.parametrize("columns", [Columns(prompt="prompt"), Columns(completion="completion")])
def test_false_label_has_no_meaning_if_columns_name_the_fields(columns):
    assert row(KTO, columns).completion == "5"


def test_completion_may_not_be_a_boolean_label():
    (problem,) = parse_rows(records_of(KTO), Columns(completion="label"), None).bad
    assert problem.reason == "label must be a string, but it is a boolean"


@pytest.mark.parametrize(
    ("shape", "changes", "reason"),
    [
        ("OpenAI DPO", {"input": "x"}, "input must be {messages}, but it is a string"),
        ("OpenAI DPO", {"input": {}}, "input.messages is missing; the fields here are: none"),
        (
            "OpenAI DPO",
            {"input": {"messages": [message("tool", "x")]}},
            "input.messages[0].role must be user here, but it is tool",
        ),
        (
            "OpenAI DPO",
            {"input": {"messages": ASKED, "tools": [{}]}},
            "the row has fields that its format does not support: tools",
        ),
        (
            "OpenAI DPO",
            {"preferred_output": []},
            "preferred_output must be a single assistant turn; put earlier turns into prompt",
        ),
        (
            "OpenAI DPO",
            {"non_preferred_output": [message("assistant", "4")]},
            "chosen and rejected are the same text, so the pair expresses no preference",
        ),
        ("ShareGPT preference", {"chosen": said("x", "y")}, "chosen.from must be human, user, gpt"),
        ("ShareGPT preference", {"rejected": None}, "rejected must be a string, but it is null"),
        ("ShareGPT preference", {"tools": json.dumps([WEATHER])}, "does not support: tools"),
        ("Alpaca preference", {"rejected": ""}, "rejected is empty"),
        (
            "chosen/rejected chats",
            {"rejected": None},
            "rejected must be a list of {role, content}, but it is null",
        ),
        ("chosen/rejected chats", {"chosen": ASKED}, "chosen must end with an assistant turn"),
        (
            "chosen/rejected chats",
            {"chosen": [message("user", "2 + 3?"), message("assistant", "5")]},
            "chosen and rejected must have the same turns, which are the prompt, except for the last one",
        ),
        ("chosen/rejected chats", {"chosen": CHATS["rejected"]}, "chosen and rejected are the same text"),
        (
            "chosen/rejected chats",
            {"prompt": "2 + 3?"},
            "prompt is none of the turns that chosen and rejected",
        ),
        (
            "chosen/rejected chats",
            {"chosen": [*ASKED, {**message("assistant", "4"), "reasoning_content": "hm"}]},
            "chosen must be plain text: pairs support no tool calls, reasoning or weights",
        ),
    ],
)
def test_bad_pair_of_each_shape_is_reported_with_its_reason(shape, changes, reason):
    (problem,) = parse_pairs(records_of({**PAIRS[shape][0], **changes}), PLAIN, None).bad
    assert reason in problem.reason
