"""`tunegate golden import` writes a golden set, and reports what it left out."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tunegate_api.cases.case_lines import parse_cases
from tunegate_api.cases.golden import GoldenCase
from tunegate_client.cli.main import main

CONFIG = """
prompts: ['Capital of {{country}}?']
tests:
  - {vars: {country: France}, assert: [{type: contains, value: Paris}]}
  - {vars: {country: Italy}, assert: [{type: contains, value: Rome}, {type: llm-rubric, value: friendly}]}
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["golden", "import", *arguments])


def test_import_writes_cases_and_reports_what_it_left_out() -> None:
    Path("config.yaml").write_text(CONFIG)
    result = run("config.yaml", "-o", "golden.jsonl", "--report", "report.json")
    assert result.exit_code == 0, result.output
    (case,) = parse_cases(Path("golden.jsonl").read_text(), GoldenCase)
    assert case.prompt == "Capital of France?"
    assert "Not carried over once: llm-rubric: asks a model to judge" in result.output
    assert "cases left out: test-2" in result.output
    assert "golden.jsonl has 1 of 2 cases of config.yaml." in result.output
    report = json.loads(Path("report.json").read_text())
    assert report["written"] == ["test-1"]
    assert report["notCarriedOver"][0]["casesLeftOut"] == ["test-2"]


def test_drop_assertions_writes_incomplete_cases_and_names_them() -> None:
    Path("config.yaml").write_text(CONFIG)
    result = run("config.yaml", "-o", "golden.jsonl", "--drop-assertions")
    assert result.exit_code == 0, result.output
    assert len(parse_cases(Path("golden.jsonl").read_text(), GoldenCase)) == 2
    assert "cases written without it: test-2" in result.output


def test_report_must_not_be_written_into_the_golden_set() -> None:
    Path("config.yaml").write_text(CONFIG)
    result = run("config.yaml", "-o", "golden.jsonl", "--report", "./golden.jsonl")
    assert result.exit_code == 2
    assert "--report and --output name the same file" in result.output
    assert not Path("golden.jsonl").exists()


def test_import_fails_if_nothing_can_be_carried_over() -> None:
    Path("config.yaml").write_text("{prompts: [p], tests: [{assert: [{type: javascript, value: 'true'}]}]}")
    result = run("config.yaml", "-o", "golden.jsonl", "--report", "report.json")
    assert result.exit_code == 1
    assert "none of 1 cases could be carried over" in result.output
    assert not Path("golden.jsonl").exists()
    assert json.loads(Path("report.json").read_text())["notCarriedOver"][0]["kind"] == "javascript"


def test_import_never_changes_an_existing_file() -> None:
    Path("config.yaml").write_text(CONFIG)
    Path("golden.jsonl").write_text("old")
    result = run("config.yaml", "-o", "golden.jsonl")
    assert result.exit_code == 1
    assert "golden.jsonl exists" in result.output
    assert Path("golden.jsonl").read_text() == "old"


def test_file_that_is_not_yaml_is_an_error() -> None:
    Path("config.yaml").write_text("prompts: [a")
    result = run("config.yaml", "-o", "golden.jsonl")
    assert result.exit_code == 1
    assert "config.yaml is not valid" in result.output


def test_unpaired_surrogate_in_a_reference_is_a_one_line_error() -> None:
    Path("config.json").write_text(r'{"prompts": ["p"], "tests": [], "defaultTest": "\ud800"}')
    result = run("config.json", "-o", "golden.jsonl")
    assert result.exit_code == 1
    message = r"config.json contains an unpaired surrogate, which is not a character, in '\ud800'"
    assert result.output == f"Error: {message}\n"


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (
            {"vars": {"x": "\ud800"}, "assert": [{"type": "contains", "value": "a"}]},
            "golden case: contains an unpaired surrogate, which is not a character",
        ),
        ({"assert": [{"type": "\ud800", "value": "a"}]}, "Not carried over once: \\ud800"),
    ],
    ids=["prompt", "unknown assertion"],
)
def test_case_with_an_unpaired_surrogate_is_left_out_and_reported(test: object, message: str) -> None:
    good = {"vars": {"x": "y"}, "assert": [{"type": "contains", "value": "a"}]}
    Path("config.json").write_text(json.dumps({"prompts": ["p {{x}}"], "tests": [test, good]}))
    result = run("config.json", "-o", "golden.jsonl", "--report", "report.json")
    assert result.exit_code == 0, result.output
    assert message in result.output
    assert "golden.jsonl has 1 of 2 cases of config.json." in result.output
    assert json.loads(Path("report.json").read_text())["notCarriedOver"][0]["casesLeftOut"] == ["test-1"]


def test_more_cases_than_a_golden_set_may_have_are_refused() -> None:
    numbers = [str(number) for number in range(600)]
    test = {"vars": {"x": numbers}, "assert": [{"type": "contains", "value": "a"}]}
    Path("config.json").write_text(json.dumps({"prompts": ["{{x}}"], "tests": [test, test]}))
    result = run("config.json", "-o", "golden.jsonl")
    assert result.exit_code == 1
    assert "config.json has 1200 cases, but a golden set has at most 1000" in result.output


def test_samples_of_inspect_ai_need_the_name_of_a_scorer() -> None:
    Path("samples.json").write_text(json.dumps([{"input": "Capital of France?", "target": "Paris"}]))
    assert run("samples.json", "-o", "golden.jsonl", "--from", "inspect").exit_code == 2
    assert run("samples.json", "-o", "golden.jsonl", "--scorer", "match").exit_code == 2
    unknown = run("samples.json", "-o", "golden.jsonl", "--from", "inspect", "--scorer", "f1")
    assert unknown.exit_code == 2
    assert "--scorer f1 of inspect_ai is none of exact, includes, match" in unknown.output
    result = run("samples.json", "-o", "golden.jsonl", "--from", "inspect", "--scorer", "match")
    assert result.exit_code == 0, result.output
    (case,) = parse_cases(Path("golden.jsonl").read_text(), GoldenCase)
    assert case.prompt == "Capital of France?"


def test_samples_of_openai_evals_need_the_class_of_their_eval() -> None:
    Path("samples.jsonl").write_text(json.dumps({"input": "Capital of France?", "ideal": "Paris"}))
    command = ("samples.jsonl", "-o", "golden.jsonl", "--from", "openai-evals")
    assert run(*command).exit_code == 2
    fuzzy = run(*command, "--scorer", "FuzzyMatch")
    assert "Not carried over once: FuzzyMatch: passes outputs that are only a part" in fuzzy.output
    result = run(*command, "--scorer", "Match")
    assert result.exit_code == 0, result.output
    (case,) = parse_cases(Path("golden.jsonl").read_text(), GoldenCase)
    assert case.prompt == "Capital of France?"


def test_graders_of_openai_need_the_rows_that_they_judge() -> None:
    output, reference = "{{ sample.output_text }}", "{{ item.a }}"
    grader = {"type": "string_check", "input": output, "reference": reference, "operation": "eq"}
    Path("grader.json").write_text(json.dumps(grader))
    Path("rows.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": "2+2?"}], "a": "4"}))
    assert run("grader.json", "-o", "golden.jsonl", "--from", "openai").exit_code == 2
    result = run("grader.json", "-o", "golden.jsonl", "--from", "openai", "--data", "rows.jsonl")
    assert result.exit_code == 0, result.output
    (case,) = parse_cases(Path("golden.jsonl").read_text(), GoldenCase)
    assert case.turns[0].content == "2+2?"


def test_lm_eval_samples_are_read_with_the_adjacent_results() -> None:
    config = {"output_type": "generate_until", "doc_to_target": "{{answer}}"}
    Path("results_2026.json").write_text(json.dumps({"configs": {"capitals": config}}))
    arguments = {"gen_args_0": {"arg_0": "Capital of France?"}}
    row = {"doc_id": 3, "doc": {}, "target": "Paris", "arguments": arguments, "filter": "none"}
    Path("samples_capitals_2026.jsonl").write_text(json.dumps(row))
    assert run("samples_capitals_2026.jsonl", "-o", "golden.jsonl", "--filter", "none").exit_code == 2
    result = run("samples_capitals_2026.jsonl", "-o", "golden.jsonl", "--from", "lm-eval")
    assert result.exit_code == 0, result.output
    (case,) = parse_cases(Path("golden.jsonl").read_text(), GoldenCase)
    assert (case.id, case.prompt) == ("doc-3", "Capital of France?")
