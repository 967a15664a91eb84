"""On a real node, a model is published only after a person with the right has approved or overridden its
verdict."""

import json
from typing import Any

import pytest

from support.node import Node
from support.tiny_job import TinyJob
from tunegate_operator.decisions import verdict_decision

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def decide(node: Node, job: TinyJob, user: str, action: str, verdict: str) -> str:
    """Set the annotation as a user. Returns kubectl's error message, or an empty string if it succeeds."""
    value = verdict_decision(verdict, user, f"{action} by {user}")
    try:
        node.kubectl(
            *("annotate", "ftj", job.name, "-n", job.namespace, "--overwrite", "--as", user),
            f"tunegate.dev/{action}={value}",
        )
    except AssertionError as error:
        return str(error)
    return ""


def bind(node: Node, namespace: str, user: str, role: str) -> None:
    node.kubectl("create", "rolebinding", user, f"--clusterrole={role}", f"--user={user}", "-n", namespace)


def evidence(job: TinyJob) -> dict[str, Any]:
    (path,) = (job.models / job.name).glob(f"{job.name}-*/evidence/verdict.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def with_gate(manifests: list[dict[str, Any]], **fields: Any) -> list[dict[str, Any]]:
    for obj in manifests:
        if obj["kind"] == "EvalGate":
            obj["spec"] |= fields
    return manifests


def test_only_a_person_with_the_right_approves_a_model(node: Node, namespace: str) -> None:
    node.install()
    bind(node, namespace, "ana", "tunegate-approve")
    bind(node, namespace, "eve", "tunegate-edit")
    job = TinyJob(node, namespace)
    node.apply(namespace, *with_gate(job.manifests(), approval="WhenPassed"))
    verdict = job.wait_for("AwaitingApproval")["final"]["verdictDigest"]
    assert job.pods("gate") == [], "nothing runs while the job waits"
    assert "kubectl tunegate approve orders" in node.plugin("status", "orders", "-w", "-n", namespace, code=4)

    assert "eve may not approve the verdict" in decide(node, job, "eve", "approve", verdict)
    assert "ana may not override the verdict" in decide(node, job, "ana", "override", verdict)
    assert not (job.models / job.name).exists()

    node.process(node.leader()).kill()  # the next leader reads the decision from the annotation

    assert decide(node, job, "ana", "approve", verdict) == ""
    status = job.ended()
    assert status["phase"] == "Succeeded", status["message"]
    assert (status["decisions"][-1]["by"], status["decisions"][-1]["action"]) == ("ana", "approve")
    assert evidence(job)["decision"] == status["decisions"][-1]


def test_override_publishes_a_failed_model_and_a_rejection_does_not(node: Node, namespace: str) -> None:
    node.install()
    bind(node, namespace, "otto", "tunegate-override")
    bind(node, namespace, "ana", "tunegate-approve")
    metrics = [{"name": "f1", "type": "F1", "average": "Macro", "min": "90%"}]
    jobs = [TinyJob(node, namespace, name) for name in ("one", "other")]
    for job in jobs:
        manifests = with_gate(job.manifests(taskMetrics=metrics), approval="WhenFailed")
        rows = next(obj for obj in manifests if obj["metadata"]["name"] == "rows")
        lines = rows["data"]["train.jsonl"].splitlines()
        lines[::4] = [line.replace('"yes"', '"No"') for line in lines[::4]]
        rows["data"]["train.jsonl"] = "\n".join(lines)
        node.apply(namespace, *manifests)
    one, other = jobs
    verdicts = [job.wait_for("AwaitingApproval")["final"]["verdictDigest"] for job in jobs]
    assert "ana may not override the verdict" in decide(node, one, "ana", "override", verdicts[0])
    assert decide(node, one, "otto", "override", verdicts[0]) == ""
    node.plugin("reject", "other", "-n", namespace, "--reason", "label No is still in use")
    status = one.ended()
    assert status["phase"] == "Succeeded", status["message"]
    found = evidence(one)
    assert (found["verdict"], found["decision"]["by"]) == ("Failed", "otto")
    assert {gate["verdict"] for gate in found["gates"]} == {"Passed"}
    assert {metric["name"]: metric["verdict"] for metric in found["taskMetrics"]} == {"f1": "Failed"}
    assert other.wait_for("Failed")["failure"]["reason"] == "Rejected"
    assert not (other.models / "other").exists()
