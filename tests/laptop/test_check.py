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


def test_check_names_leaked_golden_cases_and_exits_with_1(tunegate):
    folder = SETS / "leakage"
    found = checked(tunegate, str(folder / "train.jsonl"), "--golden", str(folder / "golden.jsonl"))
    assert found["exit code"] == 1
    assert found["rows"] == 268
    assert "golden_prompts" in [finding["check"] for finding in found["findings"]]
    assert found["failure"]["reason"] == "BadData"


def test_check_counts_rows_only_for_a_goal_and_tokens_only_for_a_model(tunegate, tmp_path, tiny_model):
    path = str(rows(tmp_path, 40, prompt="order a mug", completion="yes " * 600))
    assert "few_rows" not in {one["name"] for one in checked(tunegate, path)["results"]}
    goal = checked(tunegate, path, "--goal", "StyleOrFormat")
    assert "few_rows" in {one["name"] for one in goal["results"]}
    model = checked(tunegate, path, "--model", str(tiny_model))
    assert {"name": "long_rows", "result": "Refused"}.items() <= next(
        one for one in model["results"] if one["name"] == "long_rows"
    ).items()


def test_check_explains_an_unreadable_source(tunegate, tmp_path):
    found = checked(tunegate, f"file://{tmp_path}/nothing.jsonl")
    assert found["failure"]["reason"] == "NotFound"
    assert found["results"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.jsonl"], "nothing.jsonl does not exist"),
        ([__file__, "--column", "answer"], "--column answer must be NAME=FIELD"),
    ],
)
def test_wrong_options_of_check_are_explained(tunegate, arguments, message):
    result = tunegate("check", *arguments)
    assert result.returncode == 2
    assert message in result.stdout
