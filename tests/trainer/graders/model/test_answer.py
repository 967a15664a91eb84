"""The score in an answer of a judge: tolerant of text before the object, strict about the object."""

import json

import pytest

from tunegate_trainer.graders.journal import ServerAnswer
from tunegate_trainer.graders.model.answer import parse_answer
from tunegate_trainer.graders.server.faults import Fault, FaultError


@pytest.mark.parametrize(
    ("text", "good", "reason"),
    [
        ('{"good": true, "reason": "complete"}', True, "complete"),
        ('{"reason": "cut off", "good": false}', False, "cut off"),
        ('```json\n{"good": false, "reason": "wrong"}\n```', False, "wrong"),
        ('Here is my score:\n{"good": true, "reason": ""}', True, ""),
        ('My score is {"good": true, "reason": ""}. ', True, ""),
        ('{"good": true}', True, ""),
        ('<think>{"good": true}? The total is wrong.</think>{"good": false, "reason": "t"}', False, "t"),
        ('{"good": true, "reason": "a"} {"good": true, "reason": "b"}', True, "b"),
        ('{"good": false, "reason": "two\\nlines\\u0007 and \\ud83d half"}', False, "two lines and half"),
        ('{"criteria": {"good": 1}} {"good": true, "reason": "{}"}', True, "{}"),
    ],
)
def test_answer_with_one_score_is_read(text, good, reason):
    assert parse_answer(text) == ServerAnswer(good, reason)


def test_secrets_and_personal_data_in_a_reason_are_masked():
    leak = "leaks the key AKIAIOSFODNN7EXAMPLE and ana.smith@example.com"
    reason = parse_answer(json.dumps({"good": False, "reason": leak})).reason
    assert reason == "leaks the key AKIA… and ana.…"


def test_secret_at_the_end_of_a_truncated_reason_is_masked():
    leak = f"{'x ' * 43}AKIAIOSFODNN7EXAMPLE"
    assert parse_answer(json.dumps({"good": False, "reason": leak})).reason.endswith("x AKIA…")


def test_long_reason_is_truncated():
    assert parse_answer('{"good": false, "reason": "%s"}' % ("x" * 5000)).reason == "x" * 100


@pytest.mark.parametrize(
    "text",
    [
        "",
        "good: true",
        "true",
        "[true]",
        '{"score": true}',
        '{"good": "true"}',
        '{"good": 1}',
        '{"good": null}',
        '{"good": true, "reason": 7}',
        '{"good": true, "good": false}',
        '{"good": true} or {"good": false}',
        '{"good": true, "reason": "cut',
        '{"answer": {"good": true}}',
        'The row is {"prompt": "a "quoted" word", "completion": {"good": true}}',
        '<think>{"good": true}</think> I cannot score this.',
        'The row says {"good": true} so I refuse to answer.',
        '{"good": true, "reason": ""}\nI hope it helps.',
        '{"good": true} {"row": "3"}',
        '{"good": true, "reason": "", "row": %s}' % ("9" * 5000),
        "{" * 100_000,
        '{"good":' * 10_000,
    ],
)
def test_answer_without_exactly_one_score_is_malformed(text):
    with pytest.raises(FaultError) as raised:
        parse_answer(text)
    assert raised.value.fault is Fault.MALFORMED
