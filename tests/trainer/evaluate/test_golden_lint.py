"""Weak golden cases are found by trying outputs."""

import json

import pytest

from tunegate_api.cases.case_lines import parse_cases
from tunegate_api.cases.golden import GoldenCase
from tunegate_api.cases.golden_findings import GoldenFinding
from tunegate_trainer.evaluate.golden_lint import lint

YES = {"type": "contains", "value": "yes"}
ARRAY = {"type": "json_schema", "schema": {"type": "array"}}
TAGS = ["edge", "adversarial"]


def case(*expectations: dict[str, object], **fields: object) -> GoldenCase:
    whole = {"id": "a", "tags": TAGS, "prompt": "?", "expect": expectations or (YES,), **fields}
    (parsed,) = parse_cases(json.dumps(whole), GoldenCase)
    return parsed


def found(*cases: GoldenCase) -> list[GoldenFinding]:
    return lint(cases).findings


@pytest.mark.parametrize(
    ("expectations", "severity", "message"),
    [
        (
            [{"type": "equals", "value": "12"}, {"type": "contains", "value": "EUR"}],
            "Error",
            "case a: the expected answer '12' does not contain 'EUR'",
        ),
        (
            [{"type": "equals", "value": "twelve"}, {"type": "length", "max": 3}],
            "Error",
            "case a: the expected answer 'twelve' has 6 characters, expected at most 3",
        ),
        (
            [{"type": "label", "value": "refund"}, {"type": "label", "value": "order"}],
            "Error",
            "case a: the expected answer 'refund' is 'refund', expected 'order'",
        ),
        (
            [{"type": "json_equals", "value": {"a": 1}}, ARRAY],
            "Warning",
            "case a: the expected answer '{\"a\": 1}' $: {'a': 1} is not of type 'array'",
        ),
        (
            [{"type": "json_equals", "value": {"a": 1}}, {"type": "length", "max": 5}],
            "Warning",
            "case a: the expected answer '{\"a\": 1}' has 8 characters, expected at most 5",
        ),
        (
            [YES, {"type": "not_contains", "value": "yes"}],
            "Error",
            "case a: no output passes both contains 'yes' and not contains 'yes'",
        ),
        (
            [{"type": "judge"}, {"type": "length", "max": 0}],
            "Error",
            "case a: no output passes length of at most 0 characters without allowEmpty",
        ),
    ],
)
def test_expectations_that_contradict_each_other_are_found(expectations, severity, message):
    (finding,) = found(case(*expectations))
    assert (finding.check, finding.severity, finding.cases) == ("Unpassable", severity, ["a"])
    assert finding.message == message


@pytest.mark.parametrize(
    "expectations",
    [
        [{"type": "equals", "value": "12"}, {"type": "numeric", "value": "12.0"}],
        [{"type": "equals", "value": "YES", "normalize": ["Case"]}, {"type": "regex", "value": "^yes$"}],
        [{"type": "label", "value": "Yes"}, {"type": "equals", "value": "yes"}],
        [{"type": "json_equals", "value": {"a": 1}}, {"type": "contains", "value": '{"a":1}'}],
        [{"type": "equals", "value": "no", "not": True}, YES],
        [{"type": "equals", "value": "4", "extract": {"pattern": "= (.)"}}],
        [{"type": "equals", "value": "4", "until": [" EUR"]}, {"type": "contains", "value": "EUR"}],
        [{"type": "equals", "value": "yes", "normalize": ["Case"]}, {"type": "contains", "value": "YES"}],
        [{"type": "not_contains", "value": "You are"}],
        [{"type": "refusal", "not": True}],
        [{"type": "length", "max": 20}],
    ],
)
def test_case_that_outputs_can_pass_and_fail_has_no_finding(expectations):
    assert found(case(*expectations)) == []


@pytest.mark.parametrize(
    "expectations",
    [
        [{"type": "regex", "value": ".*"}],
        [{"type": "regex", "value": "x?"}],
        [{"type": "length", "min": 1}],
        [{"type": "any", "of": [YES, {"type": "regex", "value": "^"}]}],
    ],
)
def test_case_that_every_output_passes_is_found(expectations):
    (finding,) = found(case(*expectations))
    assert (finding.check, finding.severity) == ("Unfailable", "Warning")
    assert finding.message == "case a: every output that was tried passes, even 'Bananas are yellow.'"


def test_cases_with_the_same_prompt_are_found():
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    (finding,) = found(
        case(id="one", prompt="Hello"),
        case(id="two", prompt=" Hello\n"),
        case(id="other", prompt="hello?"),
        case(id="three", prompt=None, messages=chat),
    )
    assert (finding.check, finding.cases) == ("Duplicates", ["one", "two"])


def test_kinds_of_cases_without_a_tag_are_found():
    findings = found(case(tags=["typical"]))
    assert [finding.message for finding in findings] == [
        "no case is tagged as one of the edge cases",
        "no case is tagged as one of the adversarial cases",
    ]
    assert found(case(tags=["very-long", "prompt-injection"])) == []
    assert len(found(case(tags=["along", "knowledge"]))) == 2


def test_cases_needing_tokenizer_package_or_server_are_not_tried():
    needing = [
        {"type": "tool_calls_equal", "value": [{"name": "weather"}]},
        {"type": "any", "of": [{"type": "custom", "entryPoint": "chrf"}]},
        {"type": "judge", "not": True},
        {"type": "guardrail"},
    ]
    result = lint([case(each, id=each["type"], prompt=each["type"]) for each in needing])
    assert (result.untried, result.findings) == ([each["type"] for each in needing], [])


def test_errors_come_before_warnings():
    broken = case({"type": "equals", "value": "a"}, {"type": "equals", "value": "b"}, id="broken", prompt="b")
    weak = case({"type": "regex", "value": ".*"}, id="weak")
    assert [finding.severity for finding in found(weak, broken)] == ["Error", "Warning"]
