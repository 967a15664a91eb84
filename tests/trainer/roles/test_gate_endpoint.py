"""The final gate compares the artifact with the model that is live now, whose outputs are published."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.chat_server import ChatServerStub, failing
from support.trainer_root import STAGE, TrainerRoot, gate_spec, golden_cases
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Role
from tunegate_api.contract.results import Subject
from tunegate_api.judging.judgement import judge_final
from tunegate_api.verdict.outcomes import VerdictState
from tunegate_trainer.artifacts.gate_result import GateRoleResult
from tunegate_trainer.main import main
from tunegate_trainer.process.files import verify
from tunegate_trainer.roles import train as train_role

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("asks_again_at_once")]
STEP = 20
KEY = "key-of-the-live-model"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_model) -> Path:
    """The root of a job that has learned its answer. Tests must not write to it."""
    path = tmp_path_factory.mktemp("trained") / "root"
    root = job(path).write(tiny_model)
    (path / "volumes" / "models").mkdir(parents=True)
    train_role.run(root.context())
    return path


def job(path: Path, **endpoint: Any) -> TrainerRoot:
    compared: list[dict[str, Any]] = [{"type": "BaseModel"}]
    compared += [{"type": "Endpoint", "endpoint": endpoint}] if endpoint else []
    gates = {"orders": gate_spec(golden_cases(25), compareWith=compared)}
    spec = {"publish": [{"uri": "pvc://models/orders"}]}
    return TrainerRoot(path, checkpoint_steps=(STEP,), gates=gates, spec=spec)


@pytest.fixture
def live() -> Iterator[ChatServerStub]:
    with ChatServerStub() as stub:
        stub.key = KEY
        yield stub


@pytest.fixture
def root(trained, live, tmp_path, monkeypatch) -> TrainerRoot:
    """A copy of the trained root, whose gate has the live model as a baseline."""
    shutil.copytree(trained, tmp_path / "root")
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "root"))
    root = job(tmp_path / "root", **live.endpoint, secretName="serving-key")
    root.write_request()
    secret = root.path / "secrets" / "serving-key" / "OPENAI_API_KEY"
    secret.parent.mkdir(parents=True)
    secret.write_text(KEY)
    return root


def judge(root: TrainerRoot) -> GateRoleResult:
    assert main(["gate", "--stage", STAGE, "--step", str(STEP)]) == ExitCode.OK
    return GateRoleResult.model_validate_json((root.workspace / root.paths.gate / "result.json").read_bytes())


def published(root: TrainerRoot) -> Path:
    return root.path / "volumes" / "models" / "orders" / "orders-0f7c9"


def test_artifact_is_compared_with_the_answers_of_the_live_model(root, live):
    judged = judge(root)
    assert judged.verdict is VerdictState.PASSED
    assert "golden 25/25, Endpoint (live) 25/25: +0.0 points" in judged.verdicts[0].message
    assert len(live.bodies) == 25
    assert [e.subject for e in judged.evaluations] == [Subject.BASE, Subject.ENDPOINT, Subject.FINAL]
    reported = judge_final(root.context().request, root.report(Role.GATE).results)
    assert reported is not None
    assert reported.gates[0].baselines["Endpoint"] == 25
    outputs = (root.workspace / root.paths.gate / "endpoint-golden-orders.jsonl").read_text().splitlines()
    assert {json.loads(line)["output"] for line in outputs} == {"yes"}


@pytest.mark.parametrize(
    ("required", "verdict"), [((), VerdictState.ERROR), (("orders",), VerdictState.PASSED)]
)
def test_required_gates_live_model_is_asked_without_jobs_proxy(root, monkeypatch, required, verdict):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens at the discard port
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    replace(root, required_gates=required).write_request()
    assert judge(root).verdict is verdict


def test_artifact_that_is_worse_than_the_live_model_fails(root, live):
    """Every case expects another answer than the one that the artifact has learned."""
    root.gates["orders"]["sets"][0]["source"] = {"inline": golden_cases(25, expect="no")}
    root.write_request()
    live.reply = lambda _: "no"
    judged = judge(root)
    assert judged.verdict is VerdictState.FAILED
    assert "golden 0/25, Endpoint (live) 25/25: -100.0 points" in judged.verdicts[0].message
    assert main(["publish", "--digest", judged.artifact]) == ExitCode.USER_ERROR
    assert not published(root).exists()


def test_unavailable_server_is_verdict_error_not_a_failed_pod(root, live):
    live.reply = lambda _: failing(503, "no replica is ready")
    judged = judge(root)
    assert judged.verdict is VerdictState.ERROR
    message = judged.verdicts[0].message
    assert message.startswith(
        "Cannot compare with Endpoint (live): EvalGate orders: "
        "spec.compareWith[Endpoint].endpoint: live at http"
    )
    assert "no replica is ready" in message
    assert judged.endpoints == {}
    reported = judge_final(root.context().request, root.report(Role.GATE).results)
    assert reported is not None
    assert message in reported.message
    assert main(["publish", "--digest", judged.artifact]) == ExitCode.USER_ERROR


def test_outputs_of_the_live_model_are_published_without_prompts(root, live):
    live.reply = lambda body: "no" if "order 3 " in body["messages"][-1]["content"] else "yes"
    assert main(["publish", "--digest", judge(root).artifact]) == ExitCode.OK
    text = (published(root) / "evidence" / "endpoint-orders.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) == 25
    assert lines[3] == {"id": "case-3", "output": "no", "truncated": False, "outcomes": {"golden": "f"}}
    assert "golden order" not in text
    assert verify(published(root)) == []
    manifest = json.loads((published(root) / "manifest.json").read_text())
    assert "evidence/endpoint-orders.jsonl" in manifest["files"]
    (gate,) = json.loads((published(root) / "evidence" / "verdict.json").read_text())["gates"]
    assert gate["endpoint"] == {**live.endpoint, "outputs": "evidence/endpoint-orders.jsonl"}
    assert gate["baselines"]["Endpoint"] == {"passed": 24, "deltaPoints": "+4.0"}
    card = (published(root) / "README.md").read_text()
    assert (
        "The outputs of `live`, the model that was live, are in `evidence/endpoint-orders.jsonl`.\n\n## How"
        in card
    )


def test_outputs_that_were_changed_after_the_gate_are_not_published(root):
    artifact = judge(root).artifact
    path = root.workspace / root.paths.gate / "endpoint-golden-orders.jsonl"
    path.write_text(path.read_text().replace('"output":"yes"', '"output":"no"', 1))
    assert main(["publish", "--digest", artifact]) == ExitCode.USER_ERROR
    failure = root.report(Role.PUBLISH).failure
    assert failure is not None
    assert "endpoint-golden-orders.jsonl is missing, or was changed" in failure.message
    assert not published(root).exists()
