"""The final gate scores outputs with the judge model and the guardrail of a gate. The evidence names them."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.chat_server import failing
from support.gate_servers import judge_spec, write_calibration
from support.guard_server import GuardServerStub
from support.judge_server import JudgeServerStub, score
from support.trainer_root import STAGE, TrainerRoot, gate_spec, golden_cases
from tunegate_api.cases.probes import ProbeCounts
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode
from tunegate_api.verdict.outcomes import VerdictState
from tunegate_trainer.artifacts.gate_result import GateRoleResult
from tunegate_trainer.graders.guardrail.probes import PROBES
from tunegate_trainer.main import main
from tunegate_trainer.process.context import Context
from tunegate_trainer.roles import train as train_role

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("asks_again_at_once")]
STEP = 20


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[JudgeServerStub, GuardServerStub]]:
    with JudgeServerStub() as judge, GuardServerStub() as guardrail:
        yield judge, guardrail


@pytest.fixture
def judge(servers) -> JudgeServerStub:
    stub: JudgeServerStub = servers[0]
    stub.reply = lambda row, _: score("yes" in row["completion"], "not a confirmation")
    stub.bodies.clear()
    return stub


@pytest.fixture
def guardrail(servers) -> GuardServerStub:
    stub: GuardServerStub = servers[1]
    stub.bodies.clear()
    return stub


def job(path: Path, servers: tuple[JudgeServerStub, GuardServerStub]) -> TrainerRoot:
    expect: list[dict[str, Any]] = [{"type": "judge"}, {"type": "guardrail"}]
    cases = [case | {"expect": expect} for case in golden_cases(25)]
    gate = gate_spec(
        cases, compareWith=[{"type": "BaseModel"}], graders=[judge_spec(servers[0]), servers[1].spec]
    )
    spec = {"publish": [{"uri": "pvc://models/orders"}]}
    return TrainerRoot(path, checkpoint_steps=(STEP,), gates={"orders": gate}, spec=spec)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_model, servers) -> Path:
    """The root of a job whose checkpoint was scored by a judge and a guardrail. Tests must not write to
    it."""
    path = tmp_path_factory.mktemp("trained") / "root"
    root = job(path, servers).write(tiny_model)
    write_calibration(root)
    (path / "volumes" / "models").mkdir(parents=True)
    servers[0].reply = lambda row, _: score("yes" in row["completion"], "not a confirmation")
    train_role.run(root.context())
    return path


@pytest.fixture
def root(trained, servers, tmp_path, monkeypatch) -> TrainerRoot:
    shutil.copytree(trained, tmp_path / "root")
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "root"))
    return job(tmp_path / "root", servers)


def run_gate(root: TrainerRoot) -> GateRoleResult:
    assert main(["gate", "--stage", STAGE, "--step", str(STEP)]) == ExitCode.OK
    return GateRoleResult.model_validate_json((root.workspace / root.paths.gate / "result.json").read_bytes())


def test_checkpoint_is_scored_by_judge_and_guardrail(root):
    assert set(root.evaluation(STEP).outcomes["golden/orders"]) == {"p"}
    assert "p" not in root.evaluation(0).outcomes["golden/orders"]


def test_final_gate_asks_nothing_about_outputs_of_checkpoints(root, judge, guardrail):
    judged = run_gate(root)
    assert judged.verdict is VerdictState.PASSED, judged.verdicts
    assert judge.bodies == []
    assert len(guardrail.bodies) == len(PROBES), "only probes are sent"


def test_evidence_names_the_judge_and_the_guardrail_with_their_figures(root, judge):
    judged = run_gate(root)
    assert main(["publish", "--digest", judged.artifact]) == ExitCode.OK
    folder = root.path / "volumes" / "models" / "orders" / "orders-0f7c9"
    (gate,) = json.loads((folder / "evidence" / "verdict.json").read_text())["gates"]
    found = gate["judge"]
    assert (found["model"], found["url"]) == ("judge-7b", judge.endpoint["url"])
    assert (found["calibration"]["badFound"], found["calibration"]["goodAccepted"]) == (20, 80)
    found = gate["guardrail"]
    assert (found["model"], found["protocol"]) == ("guard-8b", "LlamaGuard")
    assert found["probes"] == {"safe": 5, "safeAccepted": 5, "unsafe": 5, "unsafeFlagged": 5, "unrated": 0}
    card = (folder / "README.md").read_text()
    assert "judge-7b" in card
    assert "guard-8b" in card


def test_uncalibrated_judge_gives_the_verdict_error(root):
    write_calibration(root, bad_found=14)
    judged = run_gate(root)
    assert judged.verdict is VerdictState.ERROR
    lines = (root.workspace / root.paths.gate / "golden-orders.jsonl").read_text().splitlines()
    assert {json.loads(line)["outcomes"]["golden"] for line in lines} == {"e"}
    assert "recall 14/20 = 0.70, lower bound 0.48, minimum 0.70" in json.loads(lines[0])["explanation"]
    assert main(["publish", "--digest", judged.artifact]) == ExitCode.USER_ERROR


def test_mistemplated_guardrail_gives_the_verdict_error(root, guardrail):
    works = guardrail.reply
    guardrail.reply = lambda _: works("a mug")
    judged = run_gate(root)
    guardrail.reply = works
    assert judged.verdict is VerdictState.ERROR
    probes = judged.guardrails["orders"].probes
    assert isinstance(probes, ProbeCounts)
    assert (probes.unsafe_flagged, probes.unsafe) == (0, 5)


def calibrate(root: TrainerRoot) -> None:
    """Make the gate measure its error rate."""
    path = root.path / "request" / "request.json"
    request = json.loads(path.read_text())
    request["gates"][0]["spec"]["errorRate"] = {"repeats": 2}
    path.write_text(json.dumps(request))


def test_error_rate_costs_no_requests_for_outputs_that_are_known(root, judge, guardrail):
    run_gate(root)
    judge.bodies.clear()
    guardrail.bodies.clear()
    calibrate(root)
    found = run_gate(root).error_rates
    assert found is not None
    assert found["orders"].repeats == [found["orders"].reference] * 2
    assert judge.bodies == []
    assert len(guardrail.bodies) == len(PROBES), "ratings are on the volume, and only probes are sent again"


def test_judge_that_gives_no_scores_leaves_the_error_rate_unknown(root, judge, monkeypatch, caplog):
    calibrate(root)
    send = Context.send_report

    def fail_from_then_on(self: Context, **changes: Any) -> None:
        if "error rate" in (getattr(changes.get("progress"), "activity", None) or ""):
            for known in (root.workspace / root.paths.job / "judges").iterdir():
                known.unlink()
            judge.reply = lambda _row, _number: failing(500)
        send(self, **changes)

    monkeypatch.setattr(Context, "send_report", fail_from_then_on)
    judged = run_gate(root)
    assert judged.error_rates is None
    assert judged.verdict is VerdictState.PASSED
    assert (
        "the error rate of gate orders is not known: 25 cases of repeat 1 could not be scored" in caplog.text
    )
