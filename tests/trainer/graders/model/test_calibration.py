"""The rows that people scored, with which a judge is calibrated."""

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from support.graders import AGREEMENT, JUDGE
from support.judge_server import calibration_rows
from support.trainer_root import TrainerRoot, gate_spec
from tunegate_api.contract.process import Role
from tunegate_api.judging.review_sample import ReviewRow, with_id
from tunegate_api.messages import Message
from tunegate_api.v1alpha2.graders import RequiredAgreement
from tunegate_trainer.graders.journal import ServerAnswer
from tunegate_trainer.graders.model.calibration import CalibrationRows, read_calibration
from tunegate_trainer.process.errors import BadDataError, SourceNotFoundError

FIELD = "EvalGate orders: spec.sets[people].source"
Read = Callable[..., CalibrationRows]


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def read(make_root: Callable[..., TrainerRoot]) -> Read:
    """Read the text of a ConfigMap's key as calibration rows."""

    def do(text: str, key: str = "scored.jsonl"):
        gates = {"orders": gate_spec(graders=[JUDGE])}
        context = make_root(inputs={f"scored/{key}": text}, gates=gates).context(Role.DATA)
        (gate,) = context.request.gates
        return read_calibration(context, gate, RequiredAgreement.model_validate(AGREEMENT))

    return do


def test_judge_is_compared_with_people(read):
    found = read(jsonl(calibration_rows(bad=20, good=80)))
    bad = [row for row in found.rows if not found.good[row.digest]]
    good = [row for row in found.rows if found.good[row.digest]]
    answers = {row.digest: ServerAnswer(False, "") for row in [*bad[:14], *good[:2]]}
    answers |= {row.digest: ServerAnswer(True, "") for row in [*bad[14:17], *good[2:75]]}
    counts = found.counts([answers.get(row.digest) for row in found.rows])
    assert (counts.bad, counts.bad_found, counts.good, counts.good_accepted) == (20, 14, 80, 73)
    assert counts.unscored == 8


def test_rows_in_the_spec_are_read_like_a_file(make_root, read):
    rows = [
        {"id": f"row-{n}", "prompt": row["prompt"], "answer": row["completion"], "good": row["good"]}
        for n, row in enumerate(calibration_rows(bad=20, good=80))
    ]
    spec = gate_spec(graders=[JUDGE])
    spec["sets"][-1] |= {"source": {"inline": rows}}
    context = make_root(gates={"orders": spec}).context(Role.DATA)
    (gate,) = context.request.gates
    found = read_calibration(context, gate, RequiredAgreement.model_validate(AGREEMENT))
    assert found.rows == read(jsonl(rows)).rows
    assert (len(found.rows), sum(found.good.values())) == (100, 80)


def test_row_of_an_earlier_sample_is_judged_like_the_sample(read):
    row = with_id(
        ReviewRow(
            row="7",
            prompt=[Message(role="system", content="s"), Message(role="user", content="q")],
            completion="bad",
        )
    )
    line = json.loads(row.model_dump_json(by_alias=True, exclude_none=True)) | {"good": False}
    found = read(jsonl([line, *calibration_rows()]))
    assert found.rows[0] == row
    assert found.good[row.digest] is False


def test_chats_and_csv_are_read_like_training_rows(read):
    chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    found = read(jsonl([{"messages": chat, "good": True}, *calibration_rows()]))
    assert (found.rows[0].prompt[0].content, found.rows[0].completion) == ("q", "a")

    table = io.StringIO()
    writer = csv.DictWriter(table, ["prompt", "completion", "good"])
    writer.writeheader()
    writer.writerows(calibration_rows())
    assert sum(read(table.getvalue(), "scored.csv").good.values()) == 80


def test_repeated_row_counts_once(read):
    found = read(jsonl(calibration_rows() * 3))
    counts = found.counts([None] * len(found.rows))
    assert (counts.bad, counts.good, counts.unscored) == (20, 80, 100)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ({"prompt": "p", "completion": "c"}, "line 101: good must be true or false, but it is missing"),
        ({"prompt": "p", "completion": "c", "good": 1}, "good must be true or false, but it is a number"),
        ({"prompt": "p", "completion": "c", "good": "yes"}, "but it is a string"),
        ({"prompt": "p", "good": True}, "line 101: completion is missing"),
        ({"question": "p", "good": True}, "a row needs the fields prompt and answer, or messages"),
        (
            {"prompt": [{"role": "user"}], "completion": "c", "good": True},
            "line 101: prompt.0: content is missing",
        ),
        ({"prompt": "p", "completion": "\ud83d", "good": True}, "line 101: the row has half of a surrogate"),
        (calibration_rows()[0] | {"good": True}, "line 101: an equal row has the other score"),
        (calibration_rows()[0] | {"rubric": "It is short."}, "line 101: an equal row has another rubric"),
        ({"prompt": "p", "completion": "c", "good": True, "rubric": ["short"]}, "rubric must be a text"),
    ],
)
def test_unusable_row_is_reported_with_its_line(read, line, problem):
    with pytest.raises(BadDataError) as raised:
        read(jsonl([*calibration_rows(), line]))
    assert str(raised.value).startswith(f"{FIELD}: ")
    assert problem in str(raised.value)


def test_line_that_is_no_json_is_reported(read):
    with pytest.raises(BadDataError, match=r"spec\.sets\[people\]\.source: line 1: "):
        read("good\n" + jsonl(calibration_rows()))


@pytest.mark.parametrize(
    ("bad", "good", "problem"),
    [
        (0, 80, "0 rows are bad, but minRecall 70% needs at least 9"),
        (20, 0, "0 rows are good, but minSpecificity 80% needs at least 16"),
        (8, 16, "8 rows are bad, but minRecall 70% needs at least 9"),
        (0, 0, "0 rows are bad, but minRecall 70% needs at least 9; 0 rows are good"),
    ],
)
def test_rows_with_which_no_judge_could_pass_are_refused(read, bad, good, problem):
    with pytest.raises(BadDataError) as raised:
        read(jsonl(calibration_rows(bad, good)))
    assert f"{FIELD}: too few rows for any judge to pass: {problem}" in str(raised.value)
    assert "let people score more rows" in raised.value.hint


def test_smallest_numbers_with_which_a_judge_can_pass_are_accepted(read):
    assert len(read(jsonl(calibration_rows(9, 16))).rows) == 25


def test_too_many_rows_are_refused_before_any_costs(read):
    with pytest.raises(BadDataError, match="more than 1000 rows"):
        read(jsonl(calibration_rows(200, 801)))


def test_missing_source_is_named(read):
    with pytest.raises(SourceNotFoundError, match=r"spec\.sets\[people\]\.source: "):
        read("", key="..hidden")
