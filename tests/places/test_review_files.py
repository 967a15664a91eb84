"""Review samples as files for a spreadsheet and for Label Studio, and the scores that come back."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.scoring_page import hostile_row, plain_rows
from tunegate_api.judging.review import RowScore
from tunegate_api.judging.review_sample import ReviewRow, sample_digest, with_id
from tunegate_api.messages import Message
from tunegate_client.places.client import ClientError
from tunegate_client.places.review import OpenReview
from tunegate_client.places.review_files import read_scores, write_sample
from tunegate_client.places.review_files.label_studio import LABELING_CONFIG
from tunegate_client.places.review_files.table import MAX_CELL

DOC = Path(__file__).parents[2] / "docs" / "review.md"


def review_of(rows: list[ReviewRow], scores: dict[str, RowScore] | None = None) -> OpenReview:
    return OpenReview("orders", sample_digest(rows), rows, "lead", scores or {})


ROWS = plain_rows(3)
A, B, C = (row.id for row in ROWS)
REVIEW = review_of(ROWS)


def read(tmp_path: Path, name: str, content: str | bytes, review: OpenReview = REVIEW) -> OpenReview:
    """Return the review after a file with this content was read."""
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_scores(path, review)


def letters(scores: Any) -> str:
    """Return the score of each row: y good, n bad, - none."""
    return "".join("-" if row.id not in scores else "yn"[not scores[row.id].good] for row in ROWS)


def table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table, as a spreadsheet shows them."""
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))


# A table


def test_exported_table_has_the_rows_and_earlier_scores(tmp_path: Path) -> None:
    path = tmp_path / "sample.csv"
    write_sample(path, review_of(ROWS, {A: RowScore(good=True), B: RowScore(good=False, note="wrong")}))
    assert path.read_bytes().startswith(b"\xef\xbb\xbf"), "Excel needs the byte order mark"
    assert [(row["prompt"], row["answer"], row["good"], row["note"]) for row in table(path)] == [
        ("order 0", "answer 0", "yes", ""),
        ("order 1", "answer 1", "no", "wrong"),
        ("order 2", "answer 2", "", ""),
    ]


def test_table_comes_back_as_it_was_exported(tmp_path: Path) -> None:
    path = tmp_path / "sample.csv"
    scores = {
        A: RowScore(good=False, note="=1+1"),
        B: RowScore(good=False, note="'=1+1"),
        C: RowScore(good=True, note='two\nlines, "quoted"; and a comma'),
    }
    write_sample(path, review_of(ROWS, scores))
    assert read_scores(path, REVIEW).scores == scores


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\t=1", "\n=1", "\uff1d1"])
def test_text_of_a_row_is_no_formula_in_a_spreadsheet(tmp_path: Path, text: str) -> None:
    row = with_id(ReviewRow(row=text, prompt=[Message(role="user", content=text)], completion=text))
    path = tmp_path / "sample.csv"
    write_sample(path, review_of([row]))
    (found,) = table(path)
    assert [found[name] for name in ("row", "prompt", "answer")] == [f"'{text}"] * 3


def test_ids_that_look_like_numbers_stay_text(tmp_path: Path) -> None:
    ids = ("123456789012", "12e4567890", "abc")
    rows = [row.model_copy(update={"id": id}) for row, id in zip(ROWS, ids, strict=True)]
    path = tmp_path / "sample.csv"
    write_sample(path, review_of(rows))
    assert [row["id"] for row in table(path)] == ["'123456789012", "'12e4567890", "abc"]
    path.write_text(path.read_text(encoding="utf-8-sig").replace(",,\n", ",yes,\n"))
    assert len(read_scores(path, review_of(rows)).scores) == 3


def test_cells_are_short_enough_for_excel(tmp_path: Path) -> None:
    path = tmp_path / "sample.csv"
    write_sample(path, review_of([with_id(ReviewRow(row="1", prompt=[], completion="x" * 40_000))]))
    (found,) = table(path)
    assert found["answer"] == "x" * MAX_CELL + "… (8000 more characters)"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_table_is_read_as_spreadsheets_write_it(
    tmp_path: Path, newline: str, delimiter: str, start: str
) -> None:
    lines = [
        ["ID", "prompt", "Good", "note"],
        [A, '"two\nlines, and; more"', "TRUE", "fine"],
        [B, "", "0", ""],
        ["", "", "", ""],
        [C, "", "", "a question"],
    ]
    content = start + newline.join(delimiter.join(line) for line in lines) + newline
    found = read(tmp_path, "scores.CSV", content)
    assert letters(found.scores) == "yn-"
    assert found.scores[A].note == "fine"


@pytest.mark.parametrize(
    ("word", "letter"),
    [(word, "y") for word in ("yes", "Y", "true", "TRUE", "1", "good", " yes ")]
    + [(word, "n") for word in ("no", "N", "false", "FALSE", "0", "bad")],
)
def test_scores_may_be_written_in_several_ways(tmp_path: Path, word: str, letter: str) -> None:
    assert letters(read(tmp_path, "scores.csv", f"id,good\n{A},{word}\n").scores) == f"{letter}--"


def test_first_line_that_names_the_separator_is_skipped(tmp_path: Path) -> None:
    assert letters(read(tmp_path, "scores.csv", f"sep=;\nid;good\n{A};yes\n").scores) == "y--"


def test_rows_without_a_score_keep_the_earlier_one(tmp_path: Path) -> None:
    review = review_of(ROWS, {A: RowScore(good=True), B: RowScore(good=True)})
    assert letters(read(tmp_path, "scores.csv", f"id,good\n{A},\n{B},no\n", review).scores) == "yn-"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (f"id,good\n{A},maybe\n", "row 2 of the table: the column good has 'maybe': write yes or no"),
        ("id,good\nnobody,yes\n", "row 2 of the table: no row of the sample has the id 'nobody'"),
        (f"id,good\n{A},yes\n{A},no\n", f"row 3 of the table: row {A} has two scores of lead: delete one"),
        (f"id,score\n{A},yes\n", "the first row of the table has no column good"),
        ("good,id\nyes\n", "row 2 of the table: no row of the sample has the id ''"),
        (
            f"id,good,note,Good,note\n{A},yes,,no,\n",
            "the first row of the table has several columns good and several columns note: keep one of each",
        ),
        ("", "the first row of the table has no column id and no column good"),
        (f"id,good\n{A},\n", "it has no scores"),
        (f'id,good\n{A},"yes\n', "not a table in CSV"),
        (f"id,good\n{A},yes\n".encode("utf-16"), "save it in the encoding UTF-8"),
    ],
)
def test_mistake_in_a_table_is_reported_with_its_place(
    tmp_path: Path, content: str | bytes, problem: str
) -> None:
    with pytest.raises(ClientError) as caught:
        read(tmp_path, "scores.csv", content)
    assert str(caught.value).startswith(str(tmp_path / "scores.csv"))
    assert problem in str(caught.value)


def test_column_with_reviewers_gives_each_their_own_scores(tmp_path: Path) -> None:
    content = f"id,good,reviewer\n{A},yes,ana\n{A},no,ben\n{B},yes,ana\n{C},yes,\n"
    found = read(tmp_path, "scores.csv", content)
    assert letters(found.scores) == "--y"
    assert {name: letters(scores) for name, scores in found.others.items()} == {"ana": "yy-", "ben": "n--"}
    assert found.scored == 3


def test_more_reviewers_than_count_are_refused(tmp_path: Path) -> None:
    lines = "".join(f"{A},yes,person {n}\n" for n in range(11))
    with pytest.raises(ClientError, match="there would be 11 reviewers, but at most 10 count"):
        read(tmp_path, "scores.csv", f"id,good,reviewer\n{lines}")


# Label Studio


def annotation(good: str | None, by: Any, note: str = "", **changes: Any) -> dict[str, Any]:
    """Return an annotation as Label Studio 1.23 exports it."""
    result = [control("good", "choices", [good])] if good else []
    result += [control("note", "textarea", [note], key="text")] if note else []
    times = {"created_at": "2026-11-28T18:01:21.705552Z", "lead_time": 8.748}
    return {"id": 61, "completed_by": by, "result": result, "was_cancelled": False, **times, **changes}


def control(name: str, kind: str, values: list[str], key: str = "") -> dict[str, Any]:
    entry = {"id": "vqFMnjElaF", "from_name": name, "to_name": "answer", "type": kind, "origin": "manual"}
    return {**entry, "value": {key or kind: values}}


def export(tmp_path: Path, *annotations: list[dict[str, Any]], first: int = 21) -> str:
    """Export the sample, and return what Label Studio exports after people annotated its tasks."""
    path = tmp_path / "tasks.json"
    write_sample(path, REVIEW)
    tasks = [
        {"id": first + n, "annotations": found, "drafts": [], "predictions": [], "project": 2, **task}
        for n, (task, found) in enumerate(zip(json.loads(path.read_text()), annotations, strict=False))
    ]
    return json.dumps(tasks)


def test_exported_tasks_have_the_data_of_the_labeling_config(tmp_path: Path) -> None:
    path = tmp_path / "tasks.json"
    row = hostile_row()
    write_sample(path, review_of([row]))
    (task,) = json.loads(path.read_text())
    assert list(task) == ["data"]
    assert task["data"]["id"] == row.id
    assert task["data"]["prompt"].startswith('tools: [{"type": "function"')
    assert "\n\nassistant: find_order({" in task["data"]["prompt"]
    assert task["data"]["answer"].startswith("reasoning: The customer asks for the date.")
    for field in ("prompt", "answer"):
        assert f'value="${field}"' in LABELING_CONFIG


def test_page_about_reviews_has_the_labeling_config() -> None:
    assert LABELING_CONFIG in DOC.read_text()


def test_annotations_of_several_people_count_for_each(tmp_path: Path) -> None:
    ana, ben = 1, {"id": 2, "email": "ben@example.com", "first_name": "Ben"}
    text = export(
        tmp_path,
        [annotation("good", ana), annotation("bad", ben, note="the total\nis wrong")],
        [annotation("good", ana)],
        [],
    )
    found = read(tmp_path, "export.json", text)
    assert {name: letters(scores) for name, scores in found.others.items()} == {
        "annotator 1": "yy-",
        "ben@example.com": "n--",
    }
    assert found.others["ben@example.com"][A].note == "the total\nis wrong"
    assert found.reviewers == ["annotator 1", "ben@example.com"], "the lead has no scores"
    data = [json.loads(text) for text in found.config_map()["data"].values()]
    assert [document["reviewer"] for document in data] == ["annotator 1", "ben@example.com"]
    assert {document["sample"] for document in data} == {REVIEW.sample}


def test_skipped_tasks_and_empty_annotations_are_no_scores(tmp_path: Path) -> None:
    skipped, empty = annotation("bad", 1, was_cancelled=True), annotation(None, 1, note="unsure")
    found = read(tmp_path, "export.json", export(tmp_path, [skipped], [empty], [annotation("good", 1)]))
    assert letters(found.others["annotator 1"]) == "--y"


def test_annotations_by_the_reviewer_are_their_own_scores(tmp_path: Path) -> None:
    lead = {"id": 1, "email": "lead"}
    found = read(tmp_path, "export.json", export(tmp_path, [annotation("good", lead)]))
    assert (letters(found.scores), found.others) == ("y--", {})


def test_annotations_of_another_sample_are_refused(tmp_path: Path) -> None:
    text = export(tmp_path, [annotation("good", 1)])
    other = replace(REVIEW, sample="f" * 64)
    with pytest.raises(ClientError, match=r"task 21 is about the sample .*…, not ffffffffffff….*--export"):
        read(tmp_path, "export.json", text, other)


def with_id_of_a(id: str) -> Any:
    return lambda text: text.replace(f'"id": "{A}"', f'"id": {id}')


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (with_id_of_a('"nobody"'), "task 21: no row of the sample has the id 'nobody'"),
        (with_id_of_a("[7]"), "task 21: no row of the sample has the id '[7]'"),
        (
            lambda text: text.replace('["good"]', '["fine"]'),
            "task 21: the choice 'fine' is neither good nor bad",
        ),
        (lambda text: text.replace('"annotations"', '"other"'), "0.annotations: Field required"),
        (lambda text: text[:-1], "not an export of Label Studio in the format JSON"),
        (lambda _: "{}", "not an export of Label Studio in the format JSON"),
        (lambda _: "[]", "it has no scores"),
        (lambda _: "[" * 100_000, "not an export of Label Studio in the format JSON"),
    ],
)
def test_mistake_in_an_export_is_reported_with_its_task(tmp_path: Path, change: Any, problem: str) -> None:
    with pytest.raises(ClientError) as caught:
        read(tmp_path, "export.json", change(export(tmp_path, [annotation("good", 1)])))
    assert str(caught.value).startswith(str(tmp_path / "export.json"))
    assert problem in str(caught.value)


def test_two_annotations_of_one_person_are_refused(tmp_path: Path) -> None:
    text = export(tmp_path, [annotation("good", 1), annotation("bad", 1)])
    with pytest.raises(ClientError, match=f"task 21: row {A} has two scores of annotator 1: delete one"):
        read(tmp_path, "export.json", text)


# JSON Lines


def line(id: object, good: object, **fields: object) -> str:
    return json.dumps({"id": id, "good": good, **fields}) + "\n"


def test_json_lines_give_scores_and_notes_of_each_reviewer(tmp_path: Path) -> None:
    text = f"{line(A, True)}\n{line(A, False, note='no date', reviewer=' ben ')}{line(B, True, reviewer='')}"
    found = read(tmp_path, "scores.jsonl", text)
    assert letters(found.scores) == "yy-"
    assert found.others == {"ben": {A: RowScore(good=False, note="no date")}}


@pytest.mark.parametrize("id", [None, 7, ["a"], {"a": 1}])
def test_score_with_a_non_text_id_is_reported_with_line(tmp_path: Path, id: object) -> None:
    with pytest.raises(ClientError, match="line 2: no row of the sample has the id"):
        read(tmp_path, "scores.jsonl", line(A, True) + line(id, True))


def test_scores_may_have_notes_with_any_line_separator(tmp_path: Path) -> None:
    text = json.dumps({"id": A, "good": False, "note": "a\u2028b"}, ensure_ascii=False)
    found = read(tmp_path, "scores.jsonl", f"\ufeff{text}\n")
    assert found.scores == {A: RowScore(good=False, note="a\u2028b")}


HALF = r"has half of a surrogate pair (such as \ud83d), which is not a character"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (line(A, "yes"), "line 1: good: Input should be a valid boolean"),
        (line(A, True, note=7), "line 1: note: Input should be a valid string"),
        (line(A, True, reviewer=7), "line 1: reviewer: Input should be a valid string"),
        (line(A, True, note="\ud800"), f"line 1: note: {HALF}"),
        (line(A, True, reviewer="b\udfff"), f"line 1: reviewer: {HALF}"),
        (line(A, True) + line(A, True), f"line 2: row {A} has two scores of lead: delete one"),
        ("[]\n", "line 1: not a JSON object"),
        ("[" * 100_000, "line 1: not a JSON object"),
        ("\n", "it has no scores"),
        ("".join(line(A, True, reviewer=f"person {n}") for n in range(11)), "there would be 11 reviewers"),
    ],
)
def test_mistake_in_json_lines_is_reported_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ClientError) as caught:
        read(tmp_path, "scores.jsonl", text)
    assert str(caught.value).startswith(f"{tmp_path / 'scores.jsonl'}: ")
    assert problem in str(caught.value)


# Files


def test_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "sample.csv"
    path.write_text("my scores")
    with pytest.raises(ClientError, match="exists, and may have scores"):
        write_sample(path, REVIEW)
    assert path.read_text() == "my scores"


def test_export_in_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match=r"must end with .csv for a spreadsheet, or .json for Label Studio"):
        write_sample(tmp_path / "sample.xlsx", REVIEW)
    assert list(tmp_path.iterdir()) == []


def test_export_into_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match="cannot be written: No such file or directory"):
        write_sample(tmp_path / "none" / "sample.csv", REVIEW)
