"""A run of a job whose golden cases are scored by a stub of a judge model. The model passes only if the judge
is calibrated and answers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.builders import make_config_map
from support.command import Command, manifests
from support.graders import JUDGE, PEOPLE, with_graders
from support.judge_server import JUDGE_KEY, JudgeServerStub, calibration_rows, find_bad_rows, score
from tunegate_api.contract.digests import sha256_text

pytestmark = pytest.mark.model


@pytest.fixture
def judge() -> Iterator[JudgeServerStub]:
    with JudgeServerStub() as stub:
        stub.key = JUDGE_KEY
        yield stub


def write(command: Command, model: Path, judge: JudgeServerStub) -> str:
    """Write the manifests of a job whose gate has cases for a judge with an API key. Return the name of their
    folder."""
    objects = manifests(model)
    gate = next(each for each in objects if each["kind"] == "EvalGate")
    cases = [
        {"id": f"case-{n}", "prompt": f"golden order {n}", "expect": [{"type": "judge"}]} for n in range(20)
    ]
    golden = gate["spec"]["sets"][0]
    gate["spec"]["sets"] = [{"name": "golden", "source": {"inline": cases}, "rules": golden["rules"]}]
    scored = "".join(json.dumps(row) + "\n" for row in calibration_rows())
    endpoint = judge.endpoint | {"secretName": "judge-key"}
    grader = JUDGE | {"endpoint": endpoint, "rubric": "It confirms the order."}
    gate["spec"] = with_graders(gate["spec"], grader, people=PEOPLE | {"sha256": sha256_text(scored)})
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "judge-key"},
        "stringData": {"OPENAI_API_KEY": JUDGE_KEY},
    }
    return command.write_all([make_config_map("scored", scored__jsonl=scored), secret, *objects])


def reply(row: dict[str, Any], number: int) -> str:
    """Score the calibration rows without errors, and outputs by whether they confirm the order."""
    is_calibration = row["prompt"][0]["content"].startswith("calibration")
    return find_bad_rows(row, number) if is_calibration else score(row["completion"] == "yes")


@pytest.mark.slow
def test_model_passes_cases_that_a_calibrated_judge_scores(tunegate, tiny_model, judge):
    judge.reply = reply
    result = tunegate("run", write(tunegate, tiny_model, judge))
    assert result.returncode == 0, result.stdout
    final = tunegate.status()["final"]
    assert final["verdict"] == "Passed"
    assert final["gates"][0]["golden"]["passed"] == 20
    outputs = {json.dumps(row) for row in judge.rows}
    assert len(outputs) == len(judge.rows), "no output is scored twice"


def test_uncalibrated_judge_fails_the_job_before_training(tunegate, tiny_model, judge):
    missed = {row["completion"] for row in calibration_rows()[:6]}
    judge.reply = lambda row, n: score(True) if row["completion"] in missed else reply(row, n)
    result = tunegate("run", write(tunegate, tiny_model, judge))
    assert result.returncode != 0
    status = tunegate.status()
    assert status["failure"]["reason"] == "UserError"
    assert "recall 14/20 = 0.70, lower bound 0.48, minimum 0.70" in status["failure"]["message"]
    assert status["display"]["gate"] == "NotReached"
    assert "checkpoints" not in status


@pytest.mark.slow
def test_judge_that_fails_after_its_calibration_gives_the_verdict_error(tunegate, tiny_model, judge):
    def no_score(row: dict[str, Any], number: int) -> str:
        is_calibration = row["prompt"][0]["content"].startswith("calibration")
        return find_bad_rows(row, number) if is_calibration else "I cannot score this."

    judge.reply = no_score
    result = tunegate("run", write(tunegate, tiny_model, judge))
    assert result.returncode != 0
    status = tunegate.status()
    assert status["failure"]["reason"] == "GateError"
    assert "Checkpoints could not be measured" in status["failure"]["hint"]
    assert status["display"]["gate"] == "Error"
    gates = [gate for checkpoint in status["checkpoints"] for gate in checkpoint["gates"]]
    assert gates[-1]["verdict"] == "Error"
    assert "Passed" not in {gate["verdict"] for gate in gates}
    assert gates[-1]["message"].startswith("20 of 20 golden cases could not be measured")
    assert not any((tunegate.runs / "volumes").glob("models/orders/*"))
