"""The data role lets a judge score the review sample, and puts the scores into the plan."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.chat_server import failing
from support.graders import JUDGE
from support.judge_server import JUDGE_KEY, JudgeServerStub, calibration_rows, find_bad_rows, score
from support.trainer_root import TrainerRoot, gate_spec, orders_spec
from tunegate_api.contract.plan import JudgePlan, Plan
from tunegate_api.contract.process import ExitCode, Role
from tunegate_api.contract.workspace import Workspace
from tunegate_api.v1alpha2.reasons import Reason
from tunegate_trainer.graders.model.instructions import DEFAULT_RUBRIC
from tunegate_trainer.main import main

pytestmark = pytest.mark.usefixtures("asks_again_at_once")

MakeJob = Callable[..., TrainerRoot]


@pytest.fixture
def make_job(
    tmp_path: Path, tiny_model: Path, judge: JudgeServerStub, monkeypatch: pytest.MonkeyPatch
) -> MakeJob:
    """Make the root of a job whose sample of 20 rows a judge scores. ``bad`` is the number of bad training
    rows."""

    def make(
        *, bad: int = 0, scored: list[dict[str, Any]] | None = None, secret: str | None = None, **changes: Any
    ) -> TrainerRoot:
        rows = [
            {"prompt": f"order {n} mugs", "completion": f"{'bad' if n < bad else 'mugs'}: {n}"}
            for n in range(40)
        ]
        endpoint = judge.endpoint | ({"secretName": "judge-key"} if secret else {})
        grader = JUDGE | {"endpoint": endpoint, **changes}
        quality = {"grader": {"gate": "orders", "name": "judge"}}
        texts = {"orders/train.jsonl": rows, "scored/scored.jsonl": scored or calibration_rows()}
        root = TrainerRoot(
            tmp_path / "root",
            gates={"orders": gate_spec(graders=[grader])},
            inputs={name: "".join(json.dumps(row) + "\n" for row in text) for name, text in texts.items()},
            spec=orders_spec(tiny_model, {"quality": quality}),
        ).write_for_data(tiny_model)
        if secret:
            file = root.path / "secrets" / "judge-key" / "OPENAI_API_KEY"
            file.parent.mkdir(parents=True)
            file.write_text(secret)
        monkeypatch.setenv("TUNEGATE_ROOT", str(root.path))
        return root

    return make


def page_of(root: TrainerRoot) -> str:
    return (root.workspace / root.paths.report).read_text(encoding="utf-8")


def plan_of(root: TrainerRoot) -> Plan:
    plan = root.report(Role.DATA).plan
    assert plan is not None
    return plan


def judged(root: TrainerRoot) -> JudgePlan:
    sample = plan_of(root).data.review
    assert sample is not None
    assert sample.judge is not None
    return sample.judge


def sampled(root: TrainerRoot) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root.data / "review" / "sample.jsonl").read_text().splitlines()]


def test_calibrated_judge_scores_the_sample(make_job, judge, caplog):
    caplog.set_level("INFO")
    root = make_job(bad=20)
    assert main(["data"]) == ExitCode.OK
    found, rows = judged(root), sampled(root)
    assert len(rows) == 20
    assert set(found.good) == {row["id"] for row in rows if "bad" not in row["completion"]}
    assert {row.id: row.reason for row in found.bad} == {
        row["id"]: "the word bad" for row in rows if "bad" in row["completion"]
    }
    counts = found.calibration
    assert (counts.bad, counts.bad_found, counts.good, counts.good_accepted) == (20, 20, 80, 80)
    assert found.model == "judge-7b"
    assert found.faults == {}
    assert len(judge.rows) == 120
    assert "judge: calibrated: recall 20/20 = 1.00, lower bound 0.83, minimum 0.70" in caplog.text
    assert "judge: 20 of 20 rows of the sample scored" in caplog.text
    page = page_of(root)
    assert "The data failed its review" in page
    assert all(f"<code>{row.id}</code>" in page for row in found.bad[:3])


def test_judge_that_misses_bad_rows_gets_no_sample(make_job, judge):
    missed = {row["completion"] for row in calibration_rows()[:6]}
    judge.reply = lambda row, n: score(True) if row["completion"] in missed else find_bad_rows(row, n)
    root = make_job()
    assert main(["data"]) == ExitCode.OK
    found = judged(root)
    assert (found.calibration.bad_found, found.calibration.bad) == (14, 20)
    assert (found.good, found.bad) == ([], [])
    assert len(judge.rows) == 100
    assert "The judge model is Inconclusive" in page_of(root)


def test_calibration_rows_without_a_score_count_against_the_judge(make_job, judge):
    unscored = {row["completion"] for row in calibration_rows()[14:24]}
    judge.reply = lambda row, n: "no idea" if row["completion"] in unscored else find_bad_rows(row, n)
    root = make_job()
    assert main(["data"]) == ExitCode.OK
    counts = judged(root).calibration
    assert (counts.bad_found, counts.good_accepted, counts.unscored) == (14, 76, 10)
    assert judged(root).faults == {"Malformed": 30}
    assert len(judge.rows) == 120, "nobody asks about the sample"


def test_sample_row_without_a_score_is_neither_good_nor_bad(make_job, judge):
    judge.reply = lambda row, n: "?" if row["completion"] == "mugs: 7" else find_bad_rows(row, n)
    root = make_job()
    assert main(["data"]) == ExitCode.OK
    found, rows = judged(root), sampled(root)
    odd = {row["id"] for row in rows if row["completion"] == "mugs: 7"}
    assert set(found.good) == {row["id"] for row in rows} - odd
    assert found.bad == []


def test_restarted_pod_sends_only_the_rows_without_a_score(make_job, judge):
    root = make_job()
    judge.reply = lambda row, n: (
        failing(503) if row["prompt"][0]["content"] > "calibration order 5" else (find_bad_rows(row, n))
    )
    assert main(["data"]) == ExitCode.UNREACHABLE
    failure = root.report(Role.DATA).failure
    assert failure is not None
    assert failure.reason == Reason.UNREACHABLE
    assert "EvalGate orders: spec.graders[judge].endpoint: judge-7b at http://127.0.0.1" in failure.message
    answered = [json.loads(line) for line in (root.data / "review" / "judge.jsonl").read_text().splitlines()]
    known, sent = sum("label" in line for line in answered), len(judge.rows)
    assert known > 0

    judge.reply = find_bad_rows
    assert main(["data", "--attempt", "2"]) == ExitCode.OK
    assert len(judge.rows) == sent + 120 - known
    assert len(judged(root).good) == 20
    assert judged(root).faults["ServerError"] >= 5

    sent = len(judge.rows)
    assert main(["data", "--attempt", "3"]) == ExitCode.OK, "the plan of the second attempt is used"
    assert len(judge.rows) == sent


def test_api_key_comes_from_the_secret(make_job, judge):
    judge.key = JUDGE_KEY
    root = make_job(secret=JUDGE_KEY)
    assert main(["data"]) == ExitCode.OK
    assert len(judged(root).good) == 20
    written = [path for path in root.workspace.rglob("*") if path.is_file()]
    assert all(JUDGE_KEY.encode() not in path.read_bytes() for path in written)


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"secret": "old-key"}, ExitCode.CREDENTIALS, "refuses access"),
        ({}, ExitCode.CREDENTIALS, "refuses access"),
        ({"scored": calibration_rows(bad=0)}, ExitCode.BAD_DATA, "0 rows are bad"),
    ],
)
def test_mistake_in_the_spec_fails_the_job_with_the_field(make_job, judge, changes, code, message):
    judge.key = JUDGE_KEY
    root = make_job(**changes)
    assert main(["data"]) == code
    failure = root.report(Role.DATA).failure
    assert failure is not None
    assert failure.message.startswith("EvalGate orders: spec.")
    assert message in failure.message
    assert judge.rows == []


def test_unusable_address_of_a_judge_is_found_before_any_download(make_job):
    root = make_job(endpoint={"url": "http://judge:port/v1", "model": "judge-7b"})
    assert main(["data"]) == ExitCode.USER_ERROR
    failure = root.report(Role.DATA).failure
    assert failure is not None
    assert failure.message.startswith(
        "EvalGate orders: spec.graders[judge].endpoint.url is not a valid address"
    )
    assert list((root.workspace / Workspace.models).iterdir()) == []


def test_rubric_of_the_spec_replaces_the_general_criteria(make_job, judge):
    make_job(rubric="The number is that of the order.")
    assert main(["data"]) == ExitCode.OK
    system = judge.bodies[0]["messages"][0]["content"]
    assert "The number is that of the order." in system
    assert "private data" not in system


def test_general_criteria_are_in_the_documentation():
    page = Path(__file__).parents[4] / "docs" / "review.md"
    assert f"```text\n{DEFAULT_RUBRIC}\n```" in page.read_text()
