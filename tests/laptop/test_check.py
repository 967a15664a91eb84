"""``tunegate check`` runs the data checks on files, without a manifest."""

import json
from pathlib import Path

import pytest

from support.command import Command

SETS = Path(__file__).parents[1] / "trainer" / "checks" / "sets"


def rows(folder: Path, count: int, **fields: object) -> Path:
    path = folder / "rows.jsonl"
    lines = [
        {"question": f"order {i} mugs", "answer": f"mugs: {i}", "customer": i, **fields} for i in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def checked(tunegate: Command, *arguments: str) -> dict:
    result = tunegate("check", *arguments, "-o", "json")
    assert result.returncode in (0, 1), result.stdout
    return json.loads(result.stdout) | {"exit code": result.returncode}


def test_check_accepts_good_data_and_leaves_no_files(tunegate, tmp_path):
    columns = ["--column", "prompt=question", "--column", "completion=answer"]
    result = tunegate("check", str(rows(tmp_path, 300)), *columns, "--goal", "StyleOrFormat")
    assert result.returncode == 0, result.stdout
    assert "300 rows" in result.stdout
    assert "a job would accept this data" in result.stdout
    assert not tunegate.runs.exists()


def results(found: dict) -> dict[str, str]:
    return {one["name"]: one["result"] for one in found["results"]}


def test_check_names_leaked_golden_cases_and_exits_with_1(tunegate):
    folder = SETS / "leakage"
    leaked = (str(folder / "train.jsonl"), "--golden", str(folder / "golden.jsonl"))
    found = checked(tunegate, *leaked)
    assert found["exit code"] == 1
    assert found["rows"] == 268
    (finding,) = [one for one in found["findings"] if one["check"] == "golden_prompts"]
    assert (finding["result"], finding["count"], len(finding["examples"])) == ("Refused", 5, 5)
    assert finding["examples"][0] == "line 1 is case case-4 of EvalGate golden-1"
    assert found["failure"]["reason"] == "BadData"
    assert finding["message"] in found["failure"]["message"]


def test_report_of_check_lists_all_bad_rows_and_is_named(tunegate, tmp_path):
    path, report = rows(tmp_path, 40, question="order a mug"), tmp_path / "found" / "report.json"
    path.write_text(path.read_text() + "no json\n" * 12)
    columns = ["--column", "prompt=question", "--column", "completion=answer"]
    found = checked(tunegate, str(path), *columns, "--report", str(report))
    assert found["failure"]["hint"] == f"correct or remove these rows; {report} lists all bad rows"
    assert [row["line"] for row in json.loads(report.read_text())["bad"]] == [*range(41, 53)]
    found = checked(tunegate, str(path), *columns)
    assert "the file that `tunegate check --report FILE` writes lists all" in found["failure"]["hint"]


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ("rows.jsonl/report.json", "cannot be written"),
        ("rows.jsonl", "is an input of this command: choose another file"),
        ("golden.jsonl", "is an input of this command: choose another file"),
    ],
)
def test_check_refuses_a_report_that_it_must_not_write(tunegate, tmp_path, report, message):
    data, golden = rows(tmp_path, 40), tmp_path / "golden.jsonl"
    golden.write_text('{"id": "a", "prompt": "1 mug", "expect": {"type": "equals", "value": "1"}}\n')
    before = data.read_bytes(), golden.read_bytes()
    for source in (str(data), data.as_uri()):
        result = tunegate("check", source, "--golden", str(golden), "--report", str(tmp_path / report))
        assert result.returncode == 2
        assert f"--report {tmp_path / report} {message}" in " ".join(result.stdout.split())
        assert (data.read_bytes(), golden.read_bytes()) == before


def test_check_uses_fields_of_the_job_that_are_set(tunegate):
    folder = SETS / "leakage"
    leaked = (str(folder / "train.jsonl"), "--golden", str(folder / "golden.jsonl"))
    found = checked(tunegate, *leaked, "--set", "checks.Leakage.policy=Warn")
    assert found["exit code"] == 0
    assert results(found)["golden_prompts"] == "Warned"
    found = checked(tunegate, *leaked, "--set", "checks.Leakage.max=5%")
    assert (found["exit code"], results(found)["golden_prompts"]) == (0, "Passed")


def test_check_counts_rows_for_a_goal_tokens_for_a_model(tunegate, tmp_path, tiny_model):
    path = str(rows(tmp_path, 40, prompt="order a mug", completion="yes " * 600))
    found = results(checked(tunegate, path))
    assert not {"few_rows", "unreviewed_rows"} & found.keys()
    assert found["long_rows"] == "Passed"
    goal = checked(tunegate, path, "--goal", "StyleOrFormat")
    assert results(goal)["few_rows"] == "Refused"
    assert "data.goal StyleOrFormat needs at least 200" in goal["failure"]["message"]
    model = checked(tunegate, path, "--model", str(tiny_model))
    assert (results(model)["long_rows"], model["exit code"]) == ("Refused", 1)


def test_check_sets_a_field_of_a_source_by_its_name(tunegate, tmp_path):
    data, requests = rows(tmp_path, 60), tmp_path / "requests.jsonl"
    requests.write_text("".join(json.dumps({"text": f"order {i} mugs"}) + "\n" for i in range(60)))
    columns = ["--column", "prompt=question", "--column", "completion=answer"]
    options = [str(data), *columns, "--production", str(requests)]
    assert results(checked(tunegate, *options))["bad_inputs"] == "Refused"
    found = checked(tunegate, *options, "--set", "sources.production.columns.prompt=text")
    assert results(found)["bad_inputs"] == "Passed"


def test_check_explains_an_unreadable_source(tunegate, tmp_path):
    found = checked(tunegate, f"file://{tmp_path}/nothing.jsonl")
    assert found["exit code"] == 1
    assert found["failure"]["reason"] == "NotFound"
    assert f"file://{tmp_path}/nothing.jsonl" in found["failure"]["message"]
    assert results(found) == {"schemas": "Passed"}, "no other check has anything to read"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.jsonl"], "nothing.jsonl does not exist"),
        ([__file__, "--column", "answer"], "--column answer must be NAME=FIELD"),
        ([__file__, "--set", "checks.Secrets"], "--set checks.Secrets must be FIELD=VALUE"),
        ([__file__, "--set", "checks.Secrets=Off"], "--set checks.Secrets=Off must name a field"),
        ([__file__, "--set", "checks.secrets.policy=Off"], "did you mean Secrets?"),
        ([__file__, "--set", "sources.train.uri.x=1"], "x=1: sources.train.uri is a value without fields"),
        ([__file__, "--set", "sources.train=a"], "--set sources.train=a must name a field"),
        ([__file__, "--set", "checks.Secrets.policy=Loud"], 'spec.data.checks[0].policy: is "Loud"'),
        ([__file__, "--model", "hf://a/b"], "spec.model: the content of an hf:// repository can change"),
    ],
)
def test_wrong_options_of_check_are_explained(tunegate, arguments, message):
    result = tunegate("check", *arguments)
    assert result.returncode == 2
    assert message in result.stdout


def test_check_escapes_control_characters_of_rows(tunegate, tmp_path):
    answer = "I'm sorry, \x1b[2Jbut I can't help with that."
    columns = ["--column", "prompt=question", "--column", "completion=answer"]
    result = tunegate("check", str(rows(tmp_path, 30, answer=answer)), *columns)
    assert "refusals" in result.stdout
    assert "I'm sorry, \\x1b[2Jbut" in " ".join(result.stdout.split())
    assert "\x1b" not in result.stdout
