"""`tunegate pairs rank` with files: export for a spreadsheet and Label Studio, and import of rankings."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from support.candidates import make_known, write_known
from support.command import Command
from support.site import Site
from tunegate_api.preference import Candidates
from tunegate_client.cli.main import main
from tunegate_client.pairs.session import shown

DOC = (Path(__file__).parents[2] / "docs" / "preference-data.md").read_text()
KNOWN = make_known(prompts=2)
ANA = {"id": "p1", "rater": "ana", "ranking": [["c3"], ["c1", "c2"]]}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_known(tmp_path / "candidates.jsonl", KNOWN)
    return tmp_path


def rank(*arguments: str) -> Result:
    command = ["pairs", "rank", "candidates.jsonl", "-o", "out.jsonl", "--rater", "ana", *arguments]
    return CliRunner().invoke(main, command)


def rankings(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def export_table(ranks: dict[str, str], *extra: str) -> None:
    """Export a table, and fill in the ranks of completions of all prompts, and more columns."""
    assert rank("--export", "table.csv").exit_code == 0
    rows = list(csv.reader(io.StringIO(Path("table.csv").read_text(encoding="utf-8-sig"))))
    filled = [[*row[:-1], ranks.get(row[1], ""), *extra[1:]] for row in rows[1:]]
    with Path("table.csv").open("w", newline="") as file:
        csv.writer(file, delimiter=";").writerows([[*rows[0], *extra[:1]], *filled])


def test_table_is_exported_in_rater_order_and_read_back(folder):
    export_table({"c1": "2", "c2": "2", "c3": "1"})
    text = Path("table.csv").read_text()
    positions = [text.index(f"p1;{one.id}") for one in shown(KNOWN["p1"], "ana")]
    assert positions == sorted(positions)
    result = rank("--import", "table.csv")
    assert result.output == "out.jsonl has 2 rankings, by ana\n"
    assert [sorted(map(sorted, one["ranking"])) for one in rankings(folder)] == [[["c1", "c2"], ["c3"]]] * 2
    assert rankings(folder)[0]["ranking"][0] == ["c3"]


def test_table_with_names_and_unusable_ones_adds_to_earlier_rankings(folder):
    (folder / "out.jsonl").write_text(json.dumps(ANA) + "\n")
    export_table({"c1": "x", "c2": "3"}, "rater", "ben")
    assert rank("--import", "table.csv").output == "out.jsonl has 3 rankings, by ana, ben\n"
    ben = {"rater": "ben", "ranking": [["c2"]], "bad": ["c1"]}
    assert rankings(folder) == [ANA, {"id": "p1", **ben}, {"id": "p2", **ben}]


def test_texts_that_a_spreadsheet_would_change_are_protected(folder):
    fields = KNOWN["p1"].model_dump() | {"id": "007", "prompt": "=1+1"}
    write_known(folder / "candidates.jsonl", {"007": Candidates.model_validate(fields)})
    export_table({"c1": "1", "c2": "2"})
    assert "'=1+1" in Path("table.csv").read_text()
    assert rank("--import", "table.csv").exit_code == 0
    assert rankings(folder)[0]["id"] == "007"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("prompt id,rank\n", "the first row of the table has no column completion id"),
        ("prompt id,completion id,rank\np1,c1,best\n", "row 2 of the table: the column rank has 'best'"),
        ("prompt id,completion id,rank\np1,c1,0\n", "row 2 of the table: the column rank has '0'"),
        (
            "prompt id,completion id,rank\np1,c9,1\n",
            "row 2 of the table: ranking: prompt p1 has no completion",
        ),
        ("prompt id,completion id,rank\np1,c1,1\np1,c1,2\n", "row 2 of the table: ranking and bad have more"),
        ("prompt id,completion id,rank\np1,c1,\n", "has no rankings"),
        ("rank,prompt id,completion id\n1,p1\n", "row 2 of the table: ranking.0.0: must not be blank"),
    ],
)
def test_mistake_in_a_table_is_reported_and_nothing_is_saved(folder, text, problem):
    (folder / "table.csv").write_text(text)
    result = rank("--import", "table.csv")
    assert result.exit_code == 1
    assert problem in result.output
    assert not (folder / "out.jsonl").exists()


def annotation(person: int, **groups: list[str]) -> dict[str, Any]:
    value = {"from_name": "ranking", "type": "ranker", "value": {"ranker": groups}}
    return {"completed_by": person, "result": [value]}


def test_labeling_interface_in_the_docs_has_the_fields_of_tasks() -> None:
    assert rank("--export", "tasks.json").exit_code == 0
    data = json.loads(Path("tasks.json").read_text())[0]["data"]
    for field in data.keys() - {"id"}:
        assert f'value="${field}"' in DOC
    for name in ("ranking", "ranked", "unusable"):
        assert f' name="{name}"' in DOC


def test_tasks_of_label_studio_are_exported_and_annotations_are_read(folder):
    assert rank("--export", "tasks.json").exit_code == 0
    tasks = json.loads(Path("tasks.json").read_text())
    assert [item["id"] for item in tasks[0]["data"]["completions"]] == [
        one.id for one in shown(KNOWN["p1"], "ana")
    ]
    tasks[0]["annotations"] = [
        annotation(1, _=[], ranked=["c2", "c1"], unusable=["c3"]),
        annotation(2, _=["c1"], ranked=["c3", "c2"], unusable=[]),
        {"completed_by": 3, "was_cancelled": True, "result": []},
    ]
    tasks[1]["annotations"] = [annotation(1, _=["c1", "c2", "c3"])]
    Path("tasks.json").write_text(json.dumps(tasks))
    assert rank("--import", "tasks.json").exit_code == 0
    assert rankings(folder) == [
        {"id": "p1", "rater": "annotator 1", "ranking": [["c2"], ["c1"]], "bad": ["c3"]},
        {"id": "p1", "rater": "annotator 2", "ranking": [["c3"], ["c2"]]},
    ]


def test_export_does_not_replace_a_file(folder):
    (folder / "table.csv").write_text("ranked")
    result = rank("--export", "table.csv")
    assert result.exit_code == 1
    assert "table.csv exists, and may have rankings" in result.output


def test_rankings_in_a_browser_are_saved_and_continued(folder):
    command = Command(folder)
    for prompt, keys, code, counted in (("p1", "2=13", 4, "1 of 2"), ("p2", "x123", 0, "2 of 2")):
        process = command.start(
            *("pairs", "rank", "candidates.jsonl", "-o", "out.jsonl", "--rater", "ana", "--web")
        )
        found = re.match(r"open http://127\.0\.0\.1:(\d+)(/[-\w]{32}/) in", process.stdout.readline())
        for key in keys:
            assert Site(int(found[1])).post(found[2], item=prompt, do=key).status == 303
        Site(int(found[1])).post(found[2], do="submit" if code == 0 else "quit")
        output, _ = process.communicate(timeout=60)
        assert (process.returncode, len(rankings(folder))) == (code, int(counted[0])), output
        assert f"out.jsonl: ana has ranked {counted} prompts" in output
    first = [one.id for one in shown(KNOWN["p1"], "ana")]
    assert rankings(folder)[0]["ranking"] == [[first[1], first[0]], [first[2]]]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--web", "--export", "a.csv"], "--web and --export exclude each other"),
        (["--export", "a.txt"], "a.txt must end with .csv for a spreadsheet, or .json"),
        (["--rater", " "], "must have 1 to 64 characters"),
        ([], "the terminal is not interactive: add --web, or --import FILE"),
        (["-o", "candidates.jsonl"], "is the file with the candidates"),
    ],
)
def test_wrong_options_are_refused(arguments, problem):
    result = rank(*arguments)
    assert result.exit_code != 0
    assert problem in result.output
