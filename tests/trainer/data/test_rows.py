"""Parsing rows of both formats, and reporting bad rows with their line and the reason."""

import json
from datetime import date
from decimal import Decimal
from math import inf
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from support.records import records_of
from tunegate_api.v1alpha2.data import Columns
from tunegate_trainer.data.parse import parse_pairs, parse_rows
from tunegate_trainer.data.records import read_records

PAIR = {"prompt": "two mugs", "completion": "mugs: 2"}


def chat(*roles: str) -> dict[str, object]:
    return {"messages": [{"role": role, "content": f"text {i}"} for i, role in enumerate(roles)]}


CALLS = [{"type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}]
TOOL_RESULT = {"role": "tool", "content": "-3 C"}


def called(*turns: dict[str, Any], calls: list[dict[str, Any]] = CALLS) -> dict[str, Any]:
    """Return a chat with a question, tool calls for it, and more turns."""
    question = {"role": "user", "content": "a"}
    return {"messages": [question, {"role": "assistant", "content": None, "tool_calls": calls}, *turns]}


def answered(**fields: Any) -> dict[str, Any]:
    """Return a chat of a question and an answer with these fields."""
    answer = {"role": "assistant", "content": "b", **fields}
    return {"messages": [{"role": "user", "content": "a"}, answer]}


def test_prompt_and_completion_become_a_user_turn_and_an_answer():
    (row,) = parse_rows(records_of(PAIR), Columns(), None).rows
    assert [(m.role, m.content) for m in row.row.prompt] == [("user", "two mugs")]
    assert row.row.completion == "mugs: 2"


def test_last_turn_of_a_chat_is_the_completion():
    (row,) = parse_rows(
        records_of(chat("system", "user", "assistant", "user", "assistant")), Columns(), None
    ).rows
    assert [m.role for m in row.row.prompt] == ["system", "user", "assistant", "user"]
    assert row.row.completion == "text 4"


def test_columns_map_the_fields_of_rows():
    columns = Columns(prompt="text", completion="json", id="key")
    (row,) = parse_rows(records_of({"text": "a", "json": "b", "key": 7}), columns, None).rows
    assert (row.row.prompt[0].content, row.row.completion, row.row.id) == ("a", "b", "7")


def test_row_without_an_id_is_named_by_its_line():
    parsed = parse_rows(records_of("", PAIR), Columns(), None)
    assert [row.row.id for row in parsed.rows] == ["line-2"]


def test_duplicate_rows_are_dropped_and_reported():
    parsed = parse_rows(records_of(PAIR, {**PAIR, "completion": "other"}, PAIR), Columns(), None)
    assert len(parsed.rows) == 2
    assert [(d.place.number, d.reason) for d in parsed.duplicates] == [(3, "repeats line 1")]


def test_duplicate_row_may_have_the_same_id():
    row = {**PAIR, "id": "x"}
    parsed = parse_rows(records_of(row, row), Columns(), None)
    assert (len(parsed.rows), parsed.bad, parsed.duplicates[0].place.number) == (1, [], 2)


def test_unicode_line_separator_does_not_end_the_row():
    text = json.dumps({"prompt": "a\u2028b\x85c", "completion": "d"}, ensure_ascii=False)
    (row,) = parse_rows(records_of(text), Columns(), None).rows
    assert row.row.prompt[0].content == "a\u2028b\x85c"


def test_windows_line_endings_are_accepted():
    parsed = parse_rows(
        records_of(f"{json.dumps(PAIR)}\r\n\r\n{json.dumps({**PAIR, 'prompt': 'a'})}\r\n"), Columns(), None
    )
    assert [row.place.number for row in parsed.rows] == [1, 3]


def test_rows_are_grouped_by_prompt_or_by_a_field():
    rows = records_of({**PAIR, "customer": "a"}, {"prompt": "TWO  mugs", "completion": "x", "customer": "b"})
    by_prompt = parse_rows(rows, Columns(), None).rows
    assert by_prompt[0].group == by_prompt[1].group
    by_field = parse_rows(rows, Columns(), "customer").rows
    assert by_field[0].group != by_field[1].group


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{not json", "the row is not JSON: Expecting property name enclosed in double quotes at column 2"),
        ("[1]", "a row must be a JSON object, but it is a list"),
        ({"prompt": "a"}, "completion is missing; the fields here are: prompt"),
        ({"prompt": "a", "completion": ""}, "completion is empty"),
        ({"prompt": " ", "completion": "b"}, "prompt is empty"),
        ({"prompt": 3, "completion": "b"}, "prompt must be a string, but it is a number"),
        ({"prompt": "a", "completion": {"x": 1}}, "completion must be a string, but it is an object"),
        ("null", "a row must be a JSON object, but it is null"),
        ({"prompt": None, "completion": "b"}, "prompt must be a string, but it is null"),
        ({**PAIR, "id": None}, "id must be a non-empty string or an integer, but it is null"),
        ({**PAIR, "id": 1.5}, "id must be a non-empty string or an integer, but it is a number"),
        ({"question": "a"}, "prompt is missing; the fields here are: question"),
        (
            '{"prompt": "\\ud800", "completion": "b"}',
            "prompt has half of a surrogate pair (such as \\ud83d), which is not a character",
        ),
        ({**PAIR, "id": "x" * 129}, "id has 129 characters, but may have at most 128"),
    ],
)
def test_bad_completion_row_is_reported_with_its_reason(row, reason):
    parsed = parse_rows(records_of(PAIR, row), Columns(), None)
    assert [(p.place.number, p.reason) for p in parsed.bad] == [(2, reason)]
    assert len(parsed.rows) == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": "hi"}, "messages must be a list of {role, content}, but it is a string"),
        (chat("assistant"), "messages[0].role must be user here, but it is assistant"),
        (chat("user", "user", "assistant"), "messages[1].role must be assistant here, but it is user"),
        (chat("user"), "messages must end with an assistant turn, which is the answer to train on"),
        (chat("system"), "messages must end with an assistant turn, which is the answer to train on"),
        (
            chat("user", "bot"),
            "messages[1].role must be system, user, assistant or tool, but it is 'bot'",
        ),
        ({"messages": [{"role": "user"}]}, "messages[0].content is missing; the fields here are: role"),
        ({"messages": None}, "messages must be a list of {role, content}, but it is null"),
        ({"messages": ["hi"]}, "messages[0] must be {role, content}, but it is a string"),
        (PAIR, "the row has the shape prompt/completion, but the first row has the shape OpenAI chat"),
        ({"text": "a"}, "messages must be a list of {role, content}, but it is missing"),
        (
            answered(name="bob", refusal="no"),
            "messages[1] has name, refusal, but a turn with role assistant may only have role, content, "
            "reasoning_content, tool_calls, weight",
        ),
        (
            {"messages": [{"role": "user", "content": "a", "weight": 1}, *answered()["messages"][1:]]},
            "messages[0] has weight, but a turn with role user may only have role, content",
        ),
        (
            answered(content=[{"type": "text", "text": "b"}]),
            "messages[1].content must be a string, but it is a list",
        ),
        (
            answered(weight=0),
            "messages[1].weight is 0, but the last turn is the answer to train on: remove the weight or the "
            "row",
        ),
        (answered(weight=0.5), "messages[1].weight must be 0 or 1, but it is 0.5"),
        (answered(reasoning_content=3), "messages[1].reasoning_content must be a string, but it is a number"),
        (
            {**answered(), "tools": [{"type": "function"}]},
            "tools.0: must be {type: function, function: {name, description, parameters}}",
        ),
        (answered(tool_calls=CALLS, content=3), "messages[1].content must be a string, but it is a number"),
        (
            answered(tool_calls=[{"function": {"name": "weather", "arguments": "{"}}]),
            "messages[1].tool_calls.0.function.arguments: must be an object or JSON: "
            "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        ),
        (
            answered(tool_calls=[{"function": {"name": "weather", "arguments": '{"days": NaN}'}}]),
            "messages[1].tool_calls.0.function.arguments has a number that is not finite, such as NaN",
        ),
        (
            {
                **answered(),
                "tools": [
                    {
                        "type": "function",
                        "function": {"name": "f", "description": "f", "parameters": {"x": inf}},
                    }
                ],
            },
            "tools has a number that is not finite, such as NaN",
        ),
        (
            {"messages": [{"role": [], "content": "a"}]},
            "messages[0].role must be system, user, assistant or tool, but it is []",
        ),
        (
            {**answered(), "functions": [{}]},
            "the row has fields that its format does not support: functions",
        ),
        (called({"role": "user", "content": "c"}), "messages[2].role must be tool here, but it is user"),
        (called(TOOL_RESULT, TOOL_RESULT), "messages[3].role must be assistant here, but it is tool"),
    ],
)
def test_bad_chat_row_is_reported_with_its_reason(row, reason):
    parsed = parse_rows(records_of(chat("user", "assistant"), row), Columns(), None)
    assert [(p.place.number, p.reason) for p in parsed.bad] == [(2, reason)]


def test_null_and_empty_fields_of_turns_are_ignored():
    parsed = parse_rows(records_of({**answered(name=None, tool_calls=[]), "tools": []}), Columns(), None)
    (plain,) = parse_rows(records_of(answered()), Columns(), None).rows
    assert [found.row for found in parsed.rows] == [plain.row]


def test_chat_that_calls_tools_keeps_calls_and_tools():
    weather = {"name": "weather", "description": "The weather", "parameters": {"type": "object"}}
    functions = [{"type": "function", "function": weather}]
    row = {**called(TOOL_RESULT, {"role": "assistant", "content": "cold"}), "tools": functions}
    (parsed,) = parse_rows(records_of(row), Columns(), None).rows
    assert [message.role for message in parsed.row.prompt] == ["user", "assistant", "tool"]
    assert parsed.row.tools == functions
    (call,) = parsed.row.prompt[1].tool_calls or []
    assert (call.function.name, call.function.arguments) == ("weather", {"city": "Oslo"})
    (ends,) = parse_rows(records_of(answered(content=None, tool_calls=CALLS)), Columns(), None).rows
    assert ends.row.answer.tool_calls == parsed.row.prompt[1].tool_calls


def nested(depth: int) -> Any:
    return {"a": nested(depth - 1)} if depth else 1


@pytest.mark.parametrize(
    "arguments",
    [nested(300), json.dumps(nested(300)), {"a": "\ud800"}],
    ids=["deep", "deep text", "surrogate"],
)
def test_row_with_an_unserializable_tool_call_is_bad(arguments):
    row = answered(content=None, tool_calls=[{"function": {"name": "f", "arguments": arguments}}])
    (bad,) = parse_rows(records_of(row), Columns(), None).bad
    assert bad.reason.startswith("the row cannot be used: ")
    assert len(bad.reason) < 200


def test_message_masks_a_secret_longer_than_the_shown_text():
    token = "ghp_" + "q7Rk2ZxV9mB4tYc8" * 3
    role = f"{'a ' * 70}{token}"
    (problem,) = parse_rows(records_of({"messages": [{"role": role}]}), Columns(), None).bad
    assert problem.reason.endswith(f"but it is '{'a ' * 70}ghp_…'")


def test_message_quotes_only_the_start_of_a_long_value():
    rows = records_of({"messages": [{"role": "x" * 10_000, "content": "a"}]}, answered(**{"y" * 10_000: 1}))
    assert [len(problem.reason) < 300 for problem in parse_rows(rows, Columns(), None).bad] == [True, True]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tools": [{}]}, "the row has fields that its format does not support: tools"),
        (
            {"chosen": [{"role": "assistant", "content": "b", "reasoning_content": "hm"}]},
            "chosen must be plain text: pairs support no tool calls, reasoning or weights",
        ),
        (
            {"rejected": [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]},
            "rejected must be plain text: pairs support no tool calls, reasoning or weights",
        ),
    ],
)
def test_pair_with_tools_or_reasoning_is_bad(changes, reason):
    (bad,) = parse_pairs(
        records_of({"prompt": "a", "chosen": "b", "rejected": "c", **changes}), Columns(), None
    ).bad
    assert bad.reason == reason


def test_order_of_call_arguments_does_not_change_the_group():
    rows = [
        {
            "messages": [
                *called(TOOL_RESULT, calls=[{"function": {"name": "f", "arguments": arguments}}])["messages"],
                {"role": "assistant", "content": "cold"},
            ]
        }
        for arguments in ({"a": 1, "b": 2}, {"b": 2, "a": 1})
    ]
    parsed = parse_rows(records_of(*rows), Columns(), None).rows
    assert len({row.group for row in parsed}) == 1


def test_prompts_with_different_tool_calls_are_different_groups():
    other = [{"function": {"name": "weather", "arguments": {"city": "Rome"}}}]
    rows = [
        {
            "messages": [
                *called(TOOL_RESULT, calls=calls)["messages"],
                {"role": "assistant", "content": "cold"},
            ]
        }
        for calls in (CALLS, other)
    ]
    first, second = parse_rows(records_of(*rows), Columns(), None).rows
    assert first.group != second.group


def test_earlier_turn_with_weight_0_is_not_trained_on():
    turns = chat("user", "assistant", "user", "assistant")["messages"]
    turns[1]["weight"], turns[3]["weight"] = 0, 1
    (row,) = parse_rows(records_of({"messages": turns}), Columns(), None).rows
    assert row.row.unlearned == [1]


@pytest.mark.parametrize("row", [PAIR, None])
def test_reasoning_of_a_row_is_part_of_its_answer(row):
    reasoned = {**PAIR, "reasoning_content": "hm"} if row else answered(reasoning_content="hm")
    (parsed,) = parse_rows(records_of(reasoned), Columns(), None).rows
    assert (parsed.row.answer.reasoning_content, parsed.row.answer.content) == ("hm", parsed.row.completion)


@pytest.mark.parametrize("row", ["[" * 100_000, '{"prompt": ' + "1" * 5000 + "}"])
def test_row_with_deep_nesting_or_a_long_number_is_bad(row):
    parsed = parse_rows(records_of(PAIR, row), Columns(), None)
    assert [(p.place.number, p.reason[:24]) for p in parsed.bad] == [(2, "the row cannot be parsed")]


def test_row_of_unknown_format_is_reported_with_its_fields():
    parsed = parse_rows(records_of({"question": "a", "answer": "b"}), Columns(), None)
    assert "prompt and completion, or messages; this row has: answer, question (map" in parsed.bad[0].reason


def test_row_with_a_duplicate_id_is_bad():
    parsed = parse_rows(
        records_of({**PAIR, "id": "x"}, {"prompt": "b", "completion": "c", "id": "x"}), Columns(), None
    )
    assert parsed.bad[0].reason == "id x is already used in line 1"


def test_rows_are_grouped_by_parquet_dates_and_decimals(tmp_path):
    groups = [(date(2024, 1, day), Decimal(price)) for day, price in ((1, "1.50"), (1, "1.50"), (2, "2.50"))]
    rows = [{**PAIR, "id": i, "day": day, "price": price} for i, (day, price) in enumerate(groups)]
    rows = [{**row, "completion": f"mugs: {i}"} for i, row in enumerate(rows)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    for field in ("day", "price"):
        parsed = parse_rows(read_records(tmp_path / "a.parquet", "data.sources[train]"), Columns(), field)
        first, second, third = (row.group for row in parsed.rows)
        assert first == second != third


def test_group_is_the_same_number_in_every_format():
    """CSV has text only, and integers in a Parquet column with nulls are floats."""

    def group(customer: object) -> str:
        return parse_rows(records_of({**PAIR, "customer": customer}), Columns(), "customer").rows[0].group

    assert group("5") == group(5) == group(5.0) == group("5.0")
    assert group("True") == group(True) == group("true") != group(1)
    assert group("2.5") == group(2.5) != group("5")


def test_row_without_the_group_field_is_bad():
    parsed = parse_rows(records_of(PAIR), Columns(), "customer")
    assert parsed.bad[0].reason == "the field customer, which heldOut.groupBy names, is missing or empty"
