"""The format of golden sets: every fault is reported with its line, and no input crashes the parser."""

import json

import pytest

from support.builders import golden_text
from tunegate_api.cases.case_lines import CaseSetError, inline_text, parse_cases
from tunegate_api.cases.expectations import leaves
from tunegate_api.cases.golden import GoldenCase, case_set
from tunegate_api.verdict.outcomes import MAX_CASES

YES = {"type": "contains", "value": "yes"}
CASE = {"id": "a", "prompt": "hi", "expect": [YES]}


def line(**changes: object) -> str:
    return json.dumps({k: v for k, v in {**CASE, **changes}.items() if v is not None}) + "\n"


def schema_case(schema: object) -> str:
    return line(expect=[{"type": "json_schema", "schema": schema}])


def nested(depth: int) -> dict[str, object]:
    """Return groups inside each other."""
    return {"type": "any", "of": [nested(depth - 1)]} if depth else YES


def test_groups_may_be_four_levels_deep():
    (case,) = parse_cases(line(expect=[nested(4)]), GoldenCase)
    assert [leaf.type for leaf in leaves(case.expect)] == ["contains"]


def test_leaves_are_selected_by_an_odd_number_of_nots():
    group = {"type": "any", "not": True, "of": [YES, {"type": "refusal", "not": True}]}
    (case,) = parse_cases(line(expect=[group, {"type": "label", "value": "x"}]), GoldenCase)
    assert [leaf.type for leaf in leaves(case.expect, negated=True)] == ["contains"]
    assert [leaf.type for leaf in leaves(case.expect, negated=False)] == ["refusal", "label"]


def test_case_set_keeps_order_and_tags_of_cases():
    cases = parse_cases(line(tags=["edge"]) + "\n" + line(id="b"), GoldenCase)
    assert [(c.id, c.tags) for c in cases] == [("a", ["edge"]), ("b", [])]
    assert case_set(cases, "digest").matching("edge") == [0]


def test_prompt_of_a_case_becomes_one_user_turn():
    (case,) = parse_cases(line(), GoldenCase)
    assert [(m.role, m.content) for m in case.turns] == [("user", "hi")]


def test_chat_messages_are_kept_unchanged():
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    (case,) = parse_cases(line(prompt=None, messages=chat), GoldenCase)
    assert [m.role for m in case.turns] == ["system", "user"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{broken\n", "line 1: not JSON"),
        (line() + line(), "line 2: id a is already used in line 1"),
        (line(prompt=None), "line 1: case: Value error, give either prompt or messages, not both"),
        (line(messages=[{"role": "user", "content": "x"}]), "give either prompt or messages"),
        (line(expect=[]), "line 1: expect:"),
        (line(expect=[{"type": "rating", "value": 3}]), "line 1: expect.0:"),
        (line(prompt=None, messages=[]), "line 1: messages: List should have at least 1 item"),
        (
            line(expect=[{"type": "regex", "value": "("}]),
            "line 1: expect.0: value: not a valid Python regular expression: missing )",
        ),
        (line(expect=[{"type": "regex", "value": "a{99999999999}"}]), "value: not a valid Python regular"),
        (schema_case({"type": "text"}), "line 1: expect.0: schema.type: must be one of array, boolean,"),
        (
            schema_case({"items": {"required": "a"}}),
            "line 1: expect.0: schema.items.required: must be a list of names of properties",
        ),
        *(
            (line(expect=[expectation]), f"line 1: expect.0: {fault}")
            for expectation, fault in (
                (
                    {"type": "regex", "value": "a", "normalize": ["Punctuation"]},
                    "normalize: only Case and LowerCase are allowed for regex",
                ),
                ({"type": "length"}, "give min, max or both"),
                ({"type": "length", "min": 3, "max": 2}, "min 3 is greater than max 2"),
                ({"type": "word_f1", "value": "a", "min": "0"}, "min: must be more than 0 and at most 1"),
                ({"type": "numeric", "value": "1", "tolerance": {}}, "tolerance: give absolute, relative"),
                (
                    {"type": "numeric", "value": "1", "tolerance": {"relative": "2"}},
                    "tolerance.relative: must be at least 0 and at most 1, not 2",
                ),
                ({"type": "all", "of": [YES], "min": 1}, "min: only allowed for any"),
                ({"type": "any", "of": [YES], "min": 2}, "min: 2 of 1 expectations cannot pass"),
                (
                    {"type": "any", "of": [YES, {"type": "regex", "value": "("}]},
                    "of.1.value: not a valid Python regular expression",
                ),
                ({"type": "length", "min": 0}, "min: 0 without max passes every output"),
                ({"type": "label", "value": " "}, "value: must have a character that is not white space"),
                ({"type": "rouge_l", "value": "!", "min": "1"}, "value: must have a letter or a digit"),
                (
                    {"type": "contains", "value": "!", "normalize": ["Punctuation"]},
                    "value: '!' has nothing that is compared, so every output has it",
                ),
                ({"type": "starts_with", "value": " "}, "value: ' ' has nothing that is compared"),
                (nested(5), "of.0.of.0.of.0.of.0.of: at most 4 groups may be inside each other"),
            )
        ),
        (
            line(expect=[{"type": "numeric", "value": 1.5}]),
            'line 1: expect.0.numeric.value: must be a quoted string, so that no digit is lost: write "1.5"',
        ),
        (
            line(expect=[{**YES, "not": "yes"}]),
            "line 1: expect.0.contains.not: Input should be a valid boolean",
        ),
        (line(id="has spaces"), "line 1: id:"),
        (line(unknown=1), "line 1: unknown:"),
        ("[" * 100_000 + "\n", "line 1:"),
        ('{"id": ' + "9" * 5000 + "}\n", "line 1:"),
        (line(prompt="\\").replace("\\\\", "\\ud800"), "line 1: contains an unpaired surrogate"),
        (line().replace('"expect"', '"expect": [], "expect"'), "line 1: expect is given twice"),
        (
            line().replace('"type": "contains"', '"type": "contains", "type": "contains"'),
            "line 1: type is given twice",
        ),
        (
            "{" + ", ".join(f'"{n:01000}": 0' for n in [*range(500), 499]) + "}\n",
            f"line 1: {'0' * 80}… is given twice",
        ),
        ("\n\n", "the golden set has no cases"),
        (golden_text(MAX_CASES + 1), f"{MAX_CASES + 1} cases, but at most {MAX_CASES} are supported"),
    ],
)
def test_invalid_golden_line_is_reported_with_its_fault(text, problem):
    with pytest.raises(CaseSetError) as caught:
        parse_cases(text, GoldenCase)
    assert any(problem in each for each in caught.value.problems), caught.value.problems


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (
            {"todo": "a long input", "prompt": None, "expect": None},
            "line 1: case a is a placeholder: write a long input, then remove todo",
        ),
        ({"todo": "a long input"}, "case a is a placeholder: write a long input"),
        ({"todo": ""}, "case a is a placeholder: write its prompt and its expectations"),
        ({"todo": True, "id": None}, "case without an id is a placeholder"),
    ],
)
def test_placeholder_is_refused_with_what_to_write(fields, problem):
    with pytest.raises(CaseSetError) as caught:
        parse_cases(line(**fields), GoldenCase)
    assert len(caught.value.problems) == 1
    assert problem in caught.value.problems[0]


def test_case_whose_todo_was_emptied_in_yaml_is_accepted():
    (case,) = parse_cases(inline_text([{**CASE, "todo": None}]), GoldenCase)
    assert case.todo is None


def test_error_message_lists_five_faults_and_counts_further_ones():
    with pytest.raises(CaseSetError, match="and 2 more") as caught:
        parse_cases("{\n" * 7, GoldenCase)
    assert len(caught.value.problems) == 7


def test_line_separators_in_a_string_do_not_split_lines():
    text = json.dumps({**CASE, "prompt": "a\u2028b\u0085c"}, ensure_ascii=False) + "\n"
    (case,) = parse_cases("\ufeff" + text, GoldenCase)
    assert case.prompt == "a\u2028b\u0085c"


def test_key_order_of_an_inline_case_does_not_change_text():
    shuffled = dict(reversed(list(CASE.items())))
    assert inline_text([CASE]) == inline_text([shuffled])
    assert parse_cases(inline_text([CASE]), GoldenCase)[0].id == "a"
