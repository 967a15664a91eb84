"""A run of a job with ``review: Judge`` asks a stub of a judge model. It continues only if the judge is
calibrated."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.builders import make_config_map
from support.command import FEW_CHECKPOINTS, Command, manifests
from support.graders import JUDGE, PEOPLE, REVIEW, with_graders
from support.judge_server import JUDGE_KEY, JudgeServerStub, calibration_rows, find_bad_rows, score
from tunegate_api.contract.digests import sha256_text

pytestmark = pytest.mark.model


@pytest.fixture
def judge() -> Iterator[JudgeServerStub]:
    with JudgeServerStub() as stub:
        stub.key = JUDGE_KEY
        yield stub


def write(command: Command, model: Path, judge: JudgeServerStub) -> str:
    """Write the manifests of a job whose judge needs an API key. Return the name of their folder."""
    data = {
        "goal": "StyleOrFormat",
        "sizePolicy": "Warn",
        "sources": [{"name": "train", "configMap": "rows"}],
        "heldOut": {"fraction": "25%"},
        "quality": REVIEW,
    }
    scored = "".join(json.dumps(row) + "\n" for row in calibration_rows())
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "judge-key"},
        "stringData": {"OPENAI_API_KEY": JUDGE_KEY},
    }
    more = [make_config_map("scored", scored__jsonl=scored), secret]
    objects = manifests(model, data=data, **FEW_CHECKPOINTS)
    gate = next(each for each in objects if each["kind"] == "EvalGate")
    grader = JUDGE | {"endpoint": judge.endpoint | {"secretName": "judge-key"}}
    gate["spec"] = with_graders(gate["spec"], grader, people=PEOPLE | {"sha256": sha256_text(scored)})
    return command.write_all([*more, *objects])


@pytest.mark.slow
def test_calibrated_judge_lets_the_job_train(tunegate, tiny_model, judge):
    result = tunegate("run", write(tunegate, tiny_model, judge))
    assert result.returncode == 0, result.stdout
    status = tunegate.status()
    assert status["data"]["reviewScore"] == "1.00"
    review = status["data"]["review"]
    assert (review["rows"], review["scored"], review["passed"]) == (20, 20, True)
    assert review["judge"]["calibration"] == "Passed"
    assert len(judge.rows) == 120


def test_bad_rows_found_by_judge_fail_job_before_training(tunegate, tiny_model, judge):
    def reply(row: dict[str, Any], number: int) -> str:
        is_odd = row["completion"] == "yes" and row["prompt"][0]["content"].endswith(" lamp")
        return score(False, "too short") if is_odd else find_bad_rows(row, number)

    judge.reply = reply
    result = tunegate("run", write(tunegate, tiny_model, judge))
    assert result.returncode == 1, result.stdout
    failure = tunegate.status()["failure"]
    assert failure["reason"] == "ReviewFailed"
    assert ": too short" in failure["message"]
    assert "training" not in tunegate.logs()


def test_people_review_the_sample_if_the_calibration_is_inconclusive(tunegate, tiny_model, judge):
    missed = {row["completion"] for row in calibration_rows()[:6]}
    judge.reply = lambda row, n: score(True) if row["completion"] in missed else find_bad_rows(row, n)
    result = tunegate("run", write(tunegate, tiny_model, judge))
    assert result.returncode == 4, result.stdout
    assert "Inconclusive: the scores of the judge judge-7b do not count" in result.stdout
    assert "recall 14/20 = 0.70, lower bound 0.48, minimum 0.70" in result.stdout
    assert "0 of 20 rows of the review sample are scored" in result.stdout
    assert tunegate.status()["data"]["review"]["judge"]["calibration"] == "Inconclusive"

    (sample,) = (tunegate.runs / "volumes" / "tuning").glob("tunegate/jobs/*/data/review/sample.jsonl")
    ids = [json.loads(line)["id"] for line in sample.read_text().splitlines()]
    scores = "".join(json.dumps({"id": id, "good": False}) + "\n" for id in ids)
    (tunegate.folder / "scores.jsonl").write_text(scores)
    reviewed = tunegate("review", "orders", "--scores", "scores.jsonl")
    assert reviewed.returncode == 1, reviewed.stdout
    assert tunegate.status()["failure"]["message"].startswith("0/20 reviewed rows are good")
    assert len(judge.rows) == 100, "the judge is not asked about the sample"
