"""The check truncated_answers finds unfinished answers among answers that are finished."""

import json
from collections import Counter
from dataclasses import replace

import pytest

from support.usable_rows import NO_CONTEXT, answered, usable_rows
from tunegate_trainer.checks import truncated_answers
from tunegate_trainer.checks.truncated_answers import token_limit

SENTENCES = [f"The mug with number {i} is sent to Oslo today." for i in range(20)]
VALUES = [json.dumps({"item": "mug", "number": i}) for i in range(20)]
BLOCKS = [f"```\nprint({i})\n```" for i in range(20)]


def found(*completions: str) -> list[str]:
    return [
        example
        for finding in truncated_answers.run(answered(*completions), NO_CONTEXT)
        for example in finding.examples
    ]


@pytest.mark.parametrize(
    ("finished", "cut", "kind"),
    [
        (SENTENCES, "The lamp is sent to Bergen, and the", "ends in the middle of a sentence"),
        (SENTENCES, "It is sent.\nThe lamp is sent to Bergen by", "ends in the middle of a sentence"),
        (VALUES, '{"item": "lamp", "num', "ends in the middle of a JSON value"),
        (VALUES, '{"item": "lamp", "number": [1, 2', "ends in the middle of a JSON value"),
        (BLOCKS, "```\nprint(", "has a code block without an end"),
    ],
)
def test_answer_that_ends_unlike_the_others_is_found(finished, cut, kind):
    (example,) = found(*finished, cut)
    assert example.startswith(f"line 21: the answer {kind}: ")


@pytest.mark.parametrize(
    "completions",
    [
        [f"Mug number {i} with a blue handle from Oslo" for i in range(20)],
        [*SENTENCES, *(f"Mug number {i} with a blue handle from Oslo" for i in range(8))],
        [*SENTENCES, "yes", "blue mug", "Best regards\nAnna"],
        [*SENTENCES, "Send these:\n- a mug with a very blue handle"],
        [*SENTENCES, "The order can be followed at https://example.com/orders/1"],
        [
            *SENTENCES,
            'The label reads "Handle this mug with great care."',
            "Thank you for the order of a mug 😀",
        ],
        [*SENTENCES, "The order is sent to Oslo (if it is complete)"],
        [*VALUES, "{'item': 'lamp', 'number': 1}", "[see the list] of mugs"],
        [*SENTENCES[:5], "The lamp is sent to Bergen, and the"],
    ],
    ids=["headlines", "two styles", "short", "list", "address", "quote", "bracket", "no JSON", "few"],
)
def test_answers_of_another_style_are_not_found(completions):
    assert found(*completions) == []


def test_chosen_answers_of_pairs_are_read():
    pairs = [{"prompt": f"{i}", "chosen": text, "rejected": "no"} for i, text in enumerate(SENTENCES)]
    pairs.append({"prompt": "lamp", "chosen": "The lamp is sent to Bergen by", "rejected": "A lamp."})
    (finding,) = truncated_answers.run(usable_rows(pairs=pairs), NO_CONTEXT)
    assert finding.examples[0].startswith("line 21 of preference: ")


def test_answers_with_a_common_maximum_of_tokens_are_found():
    short = [f"mug {i}" for i in range(200)]
    cut = [f"blue mug {i}" for i in range(20)]
    usable = answered(*short, *cut, "A blue mug is sent to Oslo.")
    lengths = [*(5 + i % 40 for i in range(200)), *[64] * 21]
    rows = [replace(row, answer=tokens) for row, tokens in zip(usable.rows, lengths, strict=True)]
    (finding,) = truncated_answers.run(replace(usable, rows=rows), NO_CONTEXT)
    assert finding.count == 20
    assert finding.examples[0] == (
        "line 201: the answer has 64 tokens, like many others but none more: blue mug 0"
    )


@pytest.mark.parametrize(
    ("lengths", "limit"),
    [
        ({10: 100, 40: 50, 64: 20}, None),
        ({10: 100, 40: 5, 64: 20}, 64),
        ({10: 100, 64: 9}, None),
        ({2: 100, 3: 50}, None),
        ({10: 20, 64: 100}, None),
        ({}, None),
    ],
    ids=["common length", "limit", "few", "labels", "all alike", "empty"],
)
def test_token_limit_is_a_maximum_that_unusually_many_answers_have(lengths, limit):
    assert token_limit(Counter(lengths)) == limit
