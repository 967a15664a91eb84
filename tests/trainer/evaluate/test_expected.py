"""Golden expectations from JSON to a score: each type, ``not``, and groups."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tunegate_api.cases.case_lines import parse_cases
from tunegate_api.cases.golden import GoldenCase
from tunegate_trainer.evaluate.expected import expected_outputs
from tunegate_trainer.evaluate.golden_references import golden_labels
from tunegate_trainer.evaluate.references import golden_reference
from tunegate_trainer.evaluate.scoring import score_cases
from tunegate_trainer.evaluate.sets import Case
from tunegate_trainer.graders import Grader, Output, Score
from tunegate_trainer.graders.exact.one_by_one import OneByOne, matcher
from tunegate_trainer.graders.exact.text import regex
from tunegate_trainer.graders.table import GRADERS

NO_TOKENIZER: Any = None
"""Only expected tool calls need a tokenizer."""
REFUSAL = "I'm sorry, but I can't help with that."
YES = {"type": "contains", "value": "yes"}
NO = {"type": "contains", "value": "no"}
MUG = {"type": "contains", "value": "mug"}
SLOW = {"type": "regex", "value": r"^(\w+\s?)*$"}
"""Exceeds the time limit for some outputs."""
ENDLESS = "a" * 40 + "!"


def parse(*expectations: dict[str, Any], **fields: object) -> GoldenCase:
    case = {"id": "case", "prompt": "?", "expect": expectations, **fields}
    (parsed,) = parse_cases(json.dumps(case), GoldenCase)
    return parsed


def scores(cases: list[GoldenCase], text: str, scorers: Mapping[str, Grader] = GRADERS) -> list[Score]:
    labels = golden_labels(cases)
    prepared = [
        Case(
            id=case.id,
            tags=[],
            shown="?",
            prompt="?",
            source=case,
            measures={
                "golden": expected_outputs(
                    case.expect,
                    lambda leaf: scorers[leaf.type],
                    lambda leaf, case=case: golden_reference(NO_TOKENIZER, case, leaf, labels),
                )
            },
        )
        for case in cases
    ]
    scored = score_cases(prepared, [Output(text, truncated=False)] * len(cases))
    return [each["golden"] for each in scored]


def score(text: str, *expectations: dict[str, Any], **fields: object) -> Score:
    return scores([parse(*expectations, **fields)], text)[0]


@pytest.mark.parametrize(
    ("expectation", "passes", "fails"),
    [
        ({"type": "equals", "value": "Yes", "normalize": ["Case", "Punctuation"]}, "yes!", "yes, no"),
        ({"type": "starts_with", "value": "Dear "}, "\n Dear Ms Lind", "My dear"),
        ({"type": "starts_with", "value": "dear", "normalize": ["Case"]}, "Dear Ms Lind", "My dear"),
        ({"type": "contains", "value": "Ms Lind", "normalize": ["WhiteSpace"]}, "Ms\n Lind", "MsLind"),
        ({"type": "contains", "value": " 5 ", "normalize": ["Case"]}, "is 5 mugs", "is 15 mugs"),
        ({"type": "not_contains", "value": "SURE", "normalize": ["Case"]}, "No.", "Sure!"),
        ({"type": "label", "value": "Refund"}, "refund\n", "refund it"),
        ({"type": "numeric", "value": "1204.50"}, "EUR 1,204.5", "EUR 1,204.51"),
        (
            {"type": "numeric", "value": "100", "tolerance": {"relative": "0.01"}},
            "about 101",
            "about 101.1",
        ),
        ({"type": "rouge_l", "value": "the red mug", "min": "0.66"}, "the red", "mug red"),
        ({"type": "word_f1", "value": "the red mug", "min": "0.8"}, "Mug, red!", "mug"),
        ({"type": "length", "max": 5}, " four \n", "longer"),
        ({"type": "length", "unit": "Words", "min": 2, "max": 2}, "two words", "one"),
        ({"type": "length", "unit": "Lines", "max": 2}, "one\ntwo\n", "one\n\nthree"),
        ({"type": "refusal"}, REFUSAL, "Sure, here it is."),
        ({"type": "refusal", "not": True}, "Sure, here it is.", REFUSAL),
        ({"type": "refusal"}, "I'm sorry, but I can't.", "I'm an AI assistant. Sure, here it is."),
        ({"type": "refusal"}, "Es tut mir leid, das kann ich nicht.", "Als KI erkläre ich das gern."),
        ({"type": "any", "of": [YES, NO]}, "no", "mug"),
        ({"type": "any", "of": [YES, NO, MUG], "min": 2}, "no mug", "no"),
        ({"type": "all", "of": [YES, MUG]}, "yes, a mug", "yes"),
        ({"type": "any", "not": True, "of": [YES, NO]}, "mug", "no"),
        ({"type": "all", "not": True, "of": [YES, NO]}, "yes", "yes and no"),
        ({"type": "any", "of": [{"type": "all", "of": [YES, MUG]}, NO]}, "yes, mug", "yes"),
    ],
)
def test_expectation_passes_one_output_and_fails_the_other(expectation, passes, fails):
    assert score(passes, expectation) == Score("p")
    failed = score(fails, expectation)
    assert failed.outcome == "f"
    assert failed.explanation


def test_empty_output_passes_only_if_the_case_allows_it():
    for expectation in (
        {"type": "refusal", "not": True},
        {"type": "any", "of": [YES], "not": True},
        {"type": "not_contains", "value": "x"},
        {"type": "length", "max": 5},
        {"type": "regex", "value": "^$"},
    ):
        assert score(" ", expectation) == Score("f", "is empty, which the case does not allow")
        assert score(" ", expectation, allowEmpty=True) == Score("p")


def test_too_deeply_nested_output_does_not_pass_the_opposite_either():
    schema = {"type": "json_schema", "schema": {"type": "object"}}
    deep = "[" * 100_000
    for expectation in (
        schema,
        {**schema, "not": True},
        {"type": "json_equals", "value": 1, "not": True},
        {"type": "all", "of": [schema, YES], "not": True},
    ):
        assert score(deep, expectation).outcome == "f", expectation


def test_explanation_of_many_expectations_is_cut():
    group = {"type": "all", "of": [{"type": "contains", "value": f"{n} " + "x" * 100} for n in range(60)]}
    assert len(score("no", group).explanation) <= 1000


def test_explanation_names_the_excluded_expectation():
    assert score("yes", {**YES, "not": True}).explanation == "passes contains, which the case excludes"
    excluded = score("yes", {"type": "any", "of": [YES, NO], "not": True}).explanation
    assert excluded == "passes a group of expectations that the case excludes"


def test_explanation_of_a_group_counts_what_passed():
    found = score("no", {"type": "any", "of": [YES, NO, MUG], "min": 2})
    assert found.explanation == ("passes 1 of 3, expected 2: does not contain 'yes'; does not contain 'mug'")


@pytest.mark.parametrize(
    "expectation",
    [
        {**SLOW, "not": True},
        {"type": "any", "of": [{"type": "length", "min": 1}, SLOW]},
        {"type": "any", "not": True, "of": [{"type": "all", "of": [SLOW]}]},
    ],
)
def test_case_is_an_error_if_any_scorer_fails_to_score(expectation):
    hasty = {**GRADERS, "regex": OneByOne(matcher(regex).judge, seconds=0.1)}
    (found,) = scores([parse(expectation)], ENDLESS, hasty)
    assert found.outcome == "e"
    assert "scoring took more than 0.1 s" in found.explanation


def test_label_of_another_case_is_named_in_the_explanation():
    expected = [{"type": "label", "value": value} for value in ("refund", "order")]
    cases = [parse(each, id=each["value"]) for each in expected]
    assert [each.explanation for each in scores(cases, "order")] == ["is 'order', expected 'refund'", ""]
    other = scores(cases, "parcel")
    assert other[0].explanation == "is not one of the labels, expected 'refund'"
