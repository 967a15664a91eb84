"""A run waits until a person decides about its final verdict. `tunegate approve`, `override` and `reject`
record the decision and end the run."""

import getpass
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.command import FEW_CHECKPOINTS, Command

pytestmark = [pytest.mark.model, pytest.mark.slow]


def run_until_the_verdict(command: Command, model: Path, gate: dict[str, Any], *, fails: bool) -> Command:
    """Run a job until it waits for a decision. If it ``fails``, every fourth row has a label for which
    nothing in the prompt is a reason, so its f1 is too low."""
    metric = {"name": "f1", "type": "F1", "average": "Macro", "min": "90%"}
    command.write(model, **FEW_CHECKPOINTS, **({"taskMetrics": [metric]} if fails else {}))
    path = command.folder / "manifests" / "all.yaml"
    documents = list(yaml.safe_load_all(path.read_text()))
    if fails:
        rows = documents[0]["data"]["train.jsonl"].splitlines()
        rows[::4] = [row.replace('"yes"', '"No"') for row in rows[::4]]
        documents[0]["data"]["train.jsonl"] = "\n".join(rows)
    for document in documents:
        if document["kind"] == "EvalGate":
            document["spec"] |= gate
    path.write_text(yaml.safe_dump_all(documents))
    result = command("run", "manifests")
    assert result.returncode == 4, result.stdout
    action = "override" if fails else "approve"
    assert f'tunegate {action} orders --reason "…"   or   tunegate reject orders' in result.stdout
    return command


@pytest.fixture(scope="session")
def passed(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, warm: dict[str, str]) -> Path:
    """The working folder of a run that awaits an approval. Tests must not change this folder."""
    command = Command(tmp_path_factory.mktemp("passed"), dict(warm))
    return run_until_the_verdict(command, tiny_model, {"approval": "WhenPassed"}, fails=False).folder


@pytest.fixture(scope="session")
def failed(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, warm: dict[str, str]) -> Path:
    """The working folder of a run whose verdict may be overridden. Tests must not change this folder."""
    command = Command(tmp_path_factory.mktemp("failed"), dict(warm))
    return run_until_the_verdict(command, tiny_model, {"approval": "WhenFailed"}, fails=True).folder


@pytest.fixture
def approvable(tmp_path: Path, passed: Path, warm: dict[str, str]) -> Command:
    shutil.copytree(passed, tmp_path / "here", symlinks=True)
    return Command(tmp_path / "here", dict(warm))


@pytest.fixture
def overridable(tmp_path: Path, failed: Path, warm: dict[str, str]) -> Command:
    shutil.copytree(failed, tmp_path / "here", symlinks=True)
    return Command(tmp_path / "here", dict(warm))


def evidence(command: Command) -> dict[str, Any]:
    (path,) = (command.runs / "volumes" / "models" / "orders").glob("orders-*/evidence/verdict.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def nothing_is_published(command: Command) -> bool:
    return not (command.runs / "volumes" / "models" / "orders").exists()


def report(command: Command) -> str:
    return (command.runs / "orders" / "report.html").read_text(encoding="utf-8")


def test_run_awaiting_approval_waits_again_until_approved(approvable):
    assert nothing_is_published(approvable)
    assert "<strong>AwaitingApproval</strong> the final model passed, and golden requires" in report(
        approvable
    )
    again = approvable("run", "manifests")
    assert again.returncode == 4, again.stdout
    assert approvable.status()["phase"] == "AwaitingApproval"

    result = approvable("approve", "orders", "--reason", "tone is <fine>")
    assert result.returncode == 0, result.stdout
    status = approvable.status()
    assert status["phase"] == "Succeeded"
    decision = status["decisions"][-1]
    assert (decision["action"], decision["by"]) == ("approve", getpass.getuser())
    assert decision["about"] == status["final"]["verdictDigest"]
    assert evidence(approvable)["decision"] == decision
    assert "approved the verdict: tone is &lt;fine&gt;" in report(approvable)
    assert '<p role="status"' not in report(approvable)
    assert (
        f"decision  approved by {getpass.getuser()}: tone is <fine>" in approvable("status", "orders").stdout
    )


def test_rejected_model_is_not_published(approvable):
    result = approvable("reject", "orders", "--reason", "wrong tone")
    assert result.returncode == 0, result.stdout
    assert "orders rejected: wrong tone" in result.stdout
    failure = approvable.status()["failure"]
    assert failure["reason"] == "Rejected"
    assert failure["message"].startswith(
        f"rejected by {getpass.getuser()}: wrong tone. The verdict was Passed"
    )
    assert nothing_is_published(approvable)
    assert "<strong>Failed</strong> Rejected: rejected by" in report(approvable)
    late = approvable("approve", "orders", "--reason", "after all")
    assert late.returncode == 1
    assert "does not wait for a decision about its final verdict: it is Failed" in late.stdout


def test_passed_verdict_cannot_be_overridden(approvable):
    result = approvable("override", "orders", "--reason", "sure")
    assert result.returncode == 1
    assert "the verdict of FineTuneJob orders is Passed: approve or reject it" in result.stdout
    assert approvable.status()["phase"] == "AwaitingApproval"


def test_overridden_model_is_published_with_its_failed_verdict(overridable):
    refused = overridable("approve", "orders", "--reason", "sure")
    assert "the verdict of FineTuneJob orders is Failed: override or reject it" in refused.stdout
    result = overridable("override", "orders", "--reason", "label No is retired")
    assert result.returncode == 0, result.stdout
    status = overridable.status()
    assert status["phase"] == "Succeeded"
    assert status["decisions"][-1]["action"] == "override"
    found = evidence(overridable)
    assert (found["verdict"], found["decision"]) == ("Failed", status["decisions"][-1])
    assert found["decision"]["about"] == found["verdictDigest"]
    (card,) = (overridable.runs / "volumes" / "models" / "orders").glob("orders-*/README.md")
    assert "label No is retired |" in card.read_text()
    assert "Failed and published" in report(overridable)
