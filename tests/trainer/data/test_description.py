"""Describing rows: the kind of their answers, and what their prompts have in common."""

import json
from collections.abc import Iterable

import pytest

from tunegate_api.contract.forecast import DescribedData
from tunegate_api.messages import Message, ToolCall
from tunegate_api.verdict.outcomes import MAX_LABELS
from tunegate_trainer.data.description import describe
from tunegate_trainer.tokens.rows import Row


def row(completion: str, prompt: str = "a question", system: str = "") -> Row:
    turns = [Message(role="system", content=system)] if system else []
    return Row(id="", prompt=[*turns, Message(role="user", content=prompt)], completion=completion)


def described(answers: Iterable[str]) -> DescribedData:
    return describe(map(row, answers))


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        (["bug", "feature"] * 10, "Labels"),
        ([f"label {i % MAX_LABELS}" for i in range(20 * MAX_LABELS)], "Labels"),
        ([f"label {i % (MAX_LABELS + 1)}" for i in range(20 * MAX_LABELS)], "ShortText"),
        (["bug", "feature"] * 9, "ShortText"),
        (["the same answer"] * 40, "ShortText"),
        ([f"order number {i}" for i in range(40)], "ShortText"),
        ([f"Dear customer {i},\nthank you." for i in range(40)], "Text"),
        (["a long answer " * 20, "another long answer " * 20] * 20, "Text"),
        ([json.dumps({"n": i}) for i in range(40)], "JSON"),
        ([json.dumps([i]) for i in range(40)], "JSON"),
        ([json.dumps({"label": "bug"})] * 40, "JSON"),
        (["1", "2"] * 20, "Labels"),
        (["{not JSON"] * 40, "ShortText"),
        (["[" * 100_000] * 3, "Text"),
    ],
)
def test_kind_of_answers_is_recognized(answers, kind):
    assert described(answers).answers == kind


def test_labels_are_counted_whatever_their_case():
    labels = described(["Bug", "bug ", "BUG", "feature"] * 10).labels
    assert [(one.label, one.rows) for one in labels] == [("Bug", 30), ("feature", 10)]


def test_answers_with_tool_calls_are_recognized():
    call = ToolCall.model_validate({"function": {"name": "weather"}})
    rows = [row("").model_copy(update={"tool_calls": [call]}) for _ in range(40)]
    assert describe(rows).answers == "ToolCalls"


def test_few_answers_that_are_not_json_are_counted():
    found = described([*([json.dumps({"n": 1})] * 39), "no order"])
    assert (found.answers, found.not_json) == ("JSON", 1)
    assert found.json_schema is not None
    assert found.json_schema["properties"] == {"n": {"type": "integer"}}


def test_lengths_are_those_of_the_longest_prompt_and_answer():
    found = describe([row("né", "a longer question"), row("n", "short")])
    assert (found.rows, found.longest_answer, found.longest_prompt) == (2, 3, 17)


def test_whole_words_that_all_prompts_share_are_found():
    prompts = [f"Classify this ticket: {text}\n\nReply with one word." for text in ("red car", "real bar")]
    found = describe(row("bug", prompt) for prompt in prompts)
    assert found.prompt_start == "Classify this ticket: "
    assert found.prompt_end == "\n\nReply with one word."


def test_prompts_without_a_template_share_no_words():
    found = describe(row("bug", prompt) for prompt in ("the app crashes", "the bill is wrong"))
    assert (found.prompt_start, found.prompt_end) == ("", "")


@pytest.mark.parametrize(("others", "system"), [(1, "Be brief."), (2, None)])
def test_system_prompt_is_that_of_most_rows(others, system):
    rows = [row("a", system="Be brief.")] * 2 + [row("a")] * others
    assert describe(rows).system_prompt == system
