"""Configurations of promptfoo become golden cases, and what has no exact equivalent is reported."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.golden_outcomes import outcome
from tunegate_client.imports.imported import Imported, NotCarriedError
from tunegate_client.imports.promptfoo import import_promptfoo
from tunegate_client.imports.promptfoo_assertions import comma_separated


def imported(folder: Path, text: str, *, incomplete: bool = False) -> Imported:
    (folder / "promptfooconfig.yaml").write_text(text)
    return import_promptfoo(folder / "promptfooconfig.yaml", incomplete=incomplete)


def one_test(folder: Path, test: str, prompt: str = "Say {{x}}") -> Imported:
    return imported(folder, f"prompts: ['{prompt}']\ntests:\n  - {test}\n")


def problems(found: Imported) -> dict[str, str]:
    return {problem.kind: problem.reason for problem in found.problems}


ASSERTIONS = [
    ("{type: equals, value: Paris}", "Paris", "Paris "),
    ("{type: equals, value: 1.0}", "1", "1.0"),
    ("{type: equals, value: yes}", "yes", "true"),
    ("{type: equals, value: ''}", "", " "),
    ("{type: equals, value: {a: [1, x]}}", '{"a": [1.0, "x"]}', '{"a": [true, "x"]}'),
    ("{type: equals, value: {a: 0}}", '{"a": 0}', '{"a": -0}'),
    ("{type: not-equals, value: {a: 0}}", "no JSON", '{"a": 0}'),
    ("{type: contains, value: a b}", "a b c", "A b c"),
    ("{type: icontains, value: SS}", "Grosse", "Große"),
    ("{type: contains-any, value: 'x, \"a, b\"'}", "say a, b", "a,b"),
    ("{type: contains-all, value: [a, 1, true]}", "1 a true", "1 a"),
    ("{type: not-icontains-any, value: [A, B]}", "c", "b"),
    ("{type: starts-with, value: A}", "A b", " A b"),
    ("{type: regex, value: '^\\d{2}$'}", "42", "42\n"),
    ("{type: not-regex, value: '\\d'}", "٤٢", "42"),
    ("{type: word-count, value: {min: 2, max: 3}}", "a b\ufeffc", "a b c d"),
    ("{type: word-count, value: 2}", " a\x1cb c ", "a"),
    ("{type: is-json}", " [1]\n", "```json\n[1]\n```"),
    ("{type: is-json, value: {required: [a], properties: {a: {type: integer}}}}", '{"a": 1.0}', '{"a": "1"}'),
    ("{type: not-is-json, value: {type: object}}", "{", "{}"),
    (
        "{type: assert-set, threshold: 0.5, assert: [{type: equals, value: a}, {type: regex, value: b}]}",
        "b",
        "c",
    ),
    ("{type: assert-set, assert: [{type: contains, value: a}, {type: contains, value: b}]}", "ab", "a"),
]


@pytest.mark.parametrize(("assertion", "passes", "fails"), ASSERTIONS)
def test_an_assertion_passes_the_same_outputs(
    tmp_path: Path, assertion: str, passes: str, fails: str
) -> None:
    found = one_test(tmp_path, f"{{vars: {{x: 1}}, assert: [{assertion}]}}")
    (case,) = found.cases
    assert (outcome(case, passes), outcome(case, fails)) == ("p", "f")


@pytest.mark.parametrize(
    ("assertion", "kind", "reason"),
    [
        ("{type: llm-rubric, value: nice}", "llm-rubric", "asks a model"),
        ("{type: not-similar, value: nice}", "not-similar", "asks a model"),
        ("{type: javascript, value: output.length}", "javascript", "runs code"),
        ("{type: latency, threshold: 5}", "latency", "measures the call"),
        ("{type: rouge-n, value: a}", "rouge-n", "computes a score"),
        ("{type: contains-json}", "contains-json", "YAML but not JSON"),
        ("{type: is-refusal}", "is-refusal", "own list of phrases"),
        ("{type: no-such-type}", "no-such-type", "is not an assertion type"),
        ("{type: equals, value: a, transform: output.trim()}", "equals", "transform"),
        ("{type: equals, value: 2024-01-05}", "equals", "date"),
        ("{type: equals, value: {a: 9007199254740993}}", "equals", "53 bits"),
        ("{type: contains, value: ''}", "contains", "is empty"),
        ("{type: contains-any, value: [a, '']}", "contains-any", "every output passes"),
        ("{type: regex, value: '(?i)a'}", "regex", "unknown group"),
        ("{type: is-json, value: {properties: {a: {format: date}}}}", "is-json", "keyword format"),
        ("{type: is-json, value: {enum: [1, 1.0]}}", "is-json", "enum has a value"),
        ("{type: contains, value: '{{ x | upper }}'}", "contains", "only plain variables"),
        ("{type: contains, value: '{{y}}'}", "contains", "the variable y has no value"),
        ("{type: equals, value: file://check.js}", "equals", "only files with the extensions"),
        ("{type: equals, value: a, weight: 0}", "assert", "every output passes"),
        ("{type: equals, value: a, weight: -1}", "weight", "must be a number from 0"),
    ],
)
def test_an_assertion_without_an_exact_equivalent_is_named(
    tmp_path: Path, assertion: str, kind: str, reason: str
) -> None:
    found = one_test(tmp_path, f"{{vars: {{x: 1}}, assert: [{assertion}]}}")
    assert found.cases == []
    assert reason in problems(found)[kind]


@pytest.mark.parametrize(
    ("test", "kind"),
    [
        (
            "{vars: {x: 1}, options: {transform: output.trim()}, assert: [{type: is-json}]}",
            "options.transform",
        ),
        (
            "{vars: {x: 1}, assertScoringFunction: file://s.js, assert: [{type: is-json}]}",
            "assertScoringFunction",
        ),
        ("{vars: {x: 1}, providerOutput: a, assert: [{type: is-json}]}", "providerOutput"),
        ("{vars: {x: 1}}", "assert"),
        ("{vars: {x: '{{y}}', y: 1}, assert: [{type: is-json}]}", "vars"),
        ("{vars: {x: {a: 1}}, assert: [{type: is-json}]}", "template"),
        ("{vars: file://vars.yaml, assert: [{type: is-json}]}", "tests"),
        ("file://tests.py", "tests"),
    ],
)
def test_a_test_that_needs_code_or_other_files_is_named(tmp_path: Path, test: str, kind: str) -> None:
    found = one_test(tmp_path, test)
    assert (found.cases, found.found) == ([], 1)
    assert kind in problems(found)


def test_case_with_unsupported_assertion_is_left_out_or_incomplete(tmp_path: Path) -> None:
    text = "{vars: {x: 1}, assert: [{type: contains, value: a}, {type: llm-rubric, value: nice}]}"
    left_out = one_test(tmp_path, text)
    incomplete = imported(tmp_path, f"prompts: [p]\ntests: [{text}]", incomplete=True)
    assert (left_out.cases, left_out.problems[0].left_out) == ([], ["test-1"])
    assert incomplete.cases == [
        {"id": "test-1", "prompt": "p", "expect": [{"type": "contains", "value": "a"}]}
    ]
    assert incomplete.problems[0].incomplete == ["test-1"]


def test_all_kinds_that_a_test_needs_are_counted(tmp_path: Path) -> None:
    found = one_test(
        tmp_path,
        "{vars: {x: [a, b]}, options: {transform: f()},"
        " assert: [{type: python, value: p}, {type: python, value: q}]}",
    )
    counts = {problem.kind: problem.count for problem in found.problems}
    assert counts == {"options.transform": 2, "python": 4}


def test_an_assertion_is_never_dropped_below_a_threshold(tmp_path: Path) -> None:
    text = "{threshold: 0.5, assert: [{type: contains, value: a}, {type: llm-rubric, value: nice}]}"
    found = imported(tmp_path, f"prompts: [p]\ntests: [{text}]", incomplete=True)
    assert found.cases == []


def contains(value: str, **fields: float) -> dict[str, Any]:
    return {"type": "contains", "value": value, **fields}


def all_of(*assertions: dict[str, Any], **fields: float) -> dict[str, Any]:
    return {"type": "assert-set", "assert": list(assertions), **fields}


A, B, C = map(contains, "abc")


@pytest.mark.parametrize(
    ("test", "passing"),
    [
        ({"threshold": 0.6, "assert": [A, B, C]}, ["ab", "ac", "bc", "abc"]),
        ({"threshold": 1, "assert": [A, B, C]}, ["abc"]),
        ({"threshold": 0.5, "assert": [contains("a", weight=2), B, C]}, ["a", "ab", "ac", "bc", "abc"]),
        ({"assert": [contains("a", weight=0), B, contains("c", weight=3)]}, ["bc", "abc"]),
        ({"threshold": 0.7, "assert": [A, all_of(B, C)]}, ["ab", "ac", "abc"]),
        ({"assert": [A, all_of(B, C, threshold=0.5)]}, ["ab", "ac", "abc"]),
        ({"threshold": 0.5, "assert": [all_of(A, weight=0), all_of(B)]}, ["b", "ab", "bc", "abc"]),
    ],
)
def test_weights_and_thresholds_decide_which_outputs_pass(
    tmp_path: Path, test: dict[str, Any], passing: list[str]
) -> None:
    (case,) = imported(tmp_path, yaml.safe_dump({"prompts": ["p"], "tests": [test]})).cases
    outputs = ["x", "a", "b", "c", "ab", "ac", "bc", "abc"]
    assert [each for each in outputs if outcome(case, each) == "p"] == passing


@pytest.mark.parametrize(
    ("threshold", "reason"), [("0", "every output reaches it"), ("1.5", "no output can reach it")]
)
def test_a_threshold_that_decides_nothing_is_named(tmp_path: Path, threshold: str, reason: str) -> None:
    found = one_test(tmp_path, f"{{vars: {{x: 1}}, threshold: {threshold}, assert: [{{type: is-json}}]}}")
    assert problems(found) == {"threshold": reason}


def test_prompts_and_lists_of_variables_are_combined(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        """
prompts:
  - "{{ who }}: {{x}}\\n"
  - '[{"role": "system", "content": "Be {{who}}."}, {"role": "user", "content": "{{x}}"}]'
defaultTest:
  vars: {who: you}
  assert: [{type: not-contains, value: no}]
tests:
  - description: Greets people!
    vars: {x: [Ann, 'Bob "B"']}
    metadata: {area: hello, Level: 2, long: [1]}
    options: {prefix: '> '}
    assert: [{type: contains, value: '{{x}}'}]
""",
    )
    ids = [case["id"] for case in found.cases]
    assert ids[0] == "Greets-people-vars-1-prompt-1"
    assert len(set(ids)) == 4
    assert found.cases[0]["prompt"] == "> you: Ann\n"
    assert found.cases[0]["tags"] == ["area.hello", "Level.2"]
    assert found.cases[3]["expect"] == [
        {"type": "contains", "value": "no", "not": True},
        {"type": "contains", "value": 'Bob "B"'},
    ]


def test_a_chat_prompt_becomes_messages(tmp_path: Path) -> None:
    (tmp_path / "chat.yaml").write_text(
        "- {role: system, content: Be brief.}\n- {role: user, content: '{{x}}'}\n"
    )
    found = imported(
        tmp_path, "prompts: [file://chat.yaml]\ntests: [{vars: {x: 'a \"b\"'}, assert: [{type: is-json}]}]"
    )
    assert found.cases[0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": 'a "b"'},
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x,__expected\r\n1,is-json\n", "different line ends"),
        ("x,__expected\n1\n", "different numbers of columns"),
        ("x,x\n1,2\n", "two columns with the same name"),
        ('x,__expected\n"1" ,is-json\n', "is invalid"),
    ],
)
def test_a_csv_file_that_programs_read_differently_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "tests.csv").write_text(text, newline="")
    found = imported(tmp_path, "prompts: ['p{{x}}']\ntests: tests.csv")
    assert reason in problems(found)["tests"]


@pytest.mark.parametrize("prompt", ["prompts.csv", "prompts/*.txt", "missing.txt", "file://p.js", "exec:run"])
def test_a_prompt_that_is_no_single_text_is_named(tmp_path: Path, prompt: str) -> None:
    found = one_test(tmp_path, "{assert: [{type: is-json}]}", prompt)
    assert (found.cases, list(problems(found))) == ([], ["prompt"])


def test_escaped_characters_in_a_json_configuration_are_read(tmp_path: Path) -> None:
    config = {"prompts": ["😀"], "tests": [{"assert": [{"type": "equals", "value": "😀"}]}]}
    (case,) = imported(tmp_path, json.dumps(config)).cases
    assert (case["prompt"], case["expect"][0]["value"]) == ("😀", "😀")


def test_a_line_separator_that_yaml_versions_read_differently_is_refused(tmp_path: Path) -> None:
    with pytest.raises(yaml.YAMLError, match=r"U\+2028"):
        imported(tmp_path, "prompts: ['a\u2028b']")


def test_csv_columns_are_variables_and_assertions(tmp_path: Path) -> None:
    (tmp_path / "tests.csv").write_text(
        "\ufeffx,__expected,__expected2,__threshold,__metadata:area\n"
        '1,"contains-any: ""a, b"", c",not-contains: d,0.5,math\n'
        "2,equals: {{x}},,,\n"
        "3,unknown: x,,,\n"
        "4,llm-rubric: nice,,,\n"
        "5,file://check.js,file://more.py:check,,\n"
    )
    found = imported(tmp_path, "prompts: ['p{{x}}']\ntests: tests.csv")
    assert [case["id"] for case in found.cases] == ["test-1", "test-2", "test-3"]
    assert found.cases[0]["tags"] == ["area.math"]
    assert [outcome(found.cases[0], each) for each in ("a, b d", "a d", "x")] == ["p", "f", "p"]
    assert found.cases[1]["expect"] == [{"type": "equals", "value": "2", "trim": False}]
    assert found.cases[2]["expect"] == [{"type": "equals", "value": "unknown: x", "trim": False}]
    left_out = {problem.kind: problem.left_out for problem in found.problems}
    assert left_out == {"llm-rubric": ["test-4"], "javascript": ["test-5"], "python": ["test-5"]}


def test_templates_of_assertions_and_scenarios_are_resolved(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        """
prompts: ['p {{x}} {{y}}']
assertionTemplates:
  brief: {type: word-count, value: {max: 2}}
scenarios:
  - config: [{vars: {x: 1}}, {vars: {x: 2}, assert: [{type: contains, value: z}]}]
    tests:
      - {vars: {y: a}, assert: [{$ref: '#/assertionTemplates/brief'}]}
      - {vars: {y: b}, assert: [{type: is-json}]}
""",
    )
    assert [case["prompt"] for case in found.cases] == ["p 1 a", "p 1 b", "p 2 a", "p 2 b"]
    assert [outcome(found.cases[2], each) for each in ("z", "a", "z z z")] == ["p", "f", "f"]


def test_an_empty_output_passes_only_where_it_passes_in_promptfoo(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        "prompts: ['{{x}}']\ntests:\n"
        "  - {vars: {x: 1}, assert: [{type: not-contains, value: a}]}\n"
        "  - {vars: {x: 2}, assert: [{type: not-contains, value: a}, {type: contains, value: b}]}\n",
    )
    assert [case.get("allowEmpty") for case in found.cases] == [True, None]
    assert outcome(found.cases[0], "") == "p"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("- a", "file"),
        ("{prompts: [p], redteam: {plugins: [a]}}", "redteam"),
        ("{prompts: [p], extensions: [file://e.js]}", "extensions"),
        ("{prompts: [p], providers: [{id: a, transform: output.trim()}]}", "transform of a provider"),
        ("{prompts: [p], env: {PROMPTFOO_DISABLE_TEMPLATING: '1'}}", "env"),
        ("{prompts: [p], tests: [{assert: [{$ref: '#/no/where'}]}]}", "$ref"),
        ("{prompts: [p], defaultTest: file://none.yaml}", "defaultTest"),
    ],
)
def test_a_file_that_cannot_be_carried_over_is_refused(tmp_path: Path, text: str, kind: str) -> None:
    with pytest.raises(NotCarriedError) as raised:
        imported(tmp_path, text)
    assert raised.value.kind == kind


def test_fields_separated_by_commas_may_be_quoted() -> None:
    assert comma_separated(' a b ,, "c, ""d""" , "e\\"\\\\f\\n",') == ["a b", 'c, "d"', 'e"\\f\\n']
