"""Completions are labels if there are few different ones, each short and in several rows."""

import pytest

from support.usable_rows import usable_rows
from tunegate_api.verdict.outcomes import MAX_LABELS
from tunegate_trainer.data.labels import count_labels

SHIP = {"name": "ship", "description": "Ship an order.", "parameters": {"type": "object"}}


def counted(*completions):
    """Return the labels of rows with these completions."""
    rows = usable_rows([{"prompt": f"text {i}", "completion": text} for i, text in enumerate(completions)])
    return count_labels(measured.labelled.row for measured in rows.rows)


def test_short_completions_are_counted_whatever_their_case_and_space():
    assert counted(*["yes", " Yes\n", "no"] * 5) == {"yes": 10, "no": 5}


def test_equal_completions_of_all_rows_are_one_label():
    assert counted(*["spam"] * 12) == {"spam": 12}


@pytest.mark.parametrize(
    "completions",
    [
        [f"{number}" for number in range(30)],
        ["yes", "no"] * 4,
        ["this is a label of six words", "no"] * 10,
        ["yes\nno", "no"] * 10,
        ["yes", "no"] * 10 + ["it depends", "no idea"],
        [f"label {number % (MAX_LABELS + 1)}" for number in range(3 * (MAX_LABELS + 1))],
    ],
    ids=["different", "few rows", "long", "two lines", "other completions", "many labels"],
)
def test_other_completions_are_not_labels(completions):
    assert counted(*completions) is None


def test_rare_labels_are_counted_but_long_completions_are_not():
    assert counted(*["yes", "no"] * 19, "I do not know which of them it is.", "maybe") == {
        "yes": 19,
        "no": 19,
        "maybe": 1,
    }


def test_seventy_seven_intents_of_a_bank_are_labels():
    labels = counted(*(f"intent {number % 77}" for number in range(77 * 5)))
    assert labels is not None
    assert len(labels) == 77


def test_tool_calls_are_not_labels():
    call = {"id": "1", "type": "function", "function": {"name": "ship", "arguments": "{}"}}
    answer = {"role": "assistant", "content": "yes", "tool_calls": [call]}
    tools = [{"type": "function", "function": SHIP}]
    rows = [
        {"messages": [{"role": "user", "content": f"ship {i}"}, answer], "tools": tools} for i in range(20)
    ]
    assert count_labels(measured.labelled.row for measured in usable_rows(rows).rows) is None
