"""The commands that change a job on a cluster, on a real API server."""

import json

import pytest
from click.testing import CliRunner

from support import manifests
from support.places import STOP, CommandAt
from tunegate_client.cli.main import main
from tunegate_operator.engine.cluster import Object

PASSED: Object = {
    "modelDigest": "a" * 64,
    "taskVerdict": "Passed",
    "verdict": "Passed",
    "verdictDigest": "b" * 64,
}


def annotations(command: CommandAt) -> Object:
    found: Object = command.place.client.get("FineTuneJob", "orders")["metadata"].get("annotations", {})
    return found


@pytest.mark.cluster
@pytest.mark.parametrize("decision", ["continue", "discard"])
def test_decision_about_a_stopped_job_is_recorded_with_its_reason(
    on_cluster: CommandAt, decision: str
) -> None:
    job = on_cluster.place.create(manifests.finetunejob())
    on_cluster.place.set_status(job, phase="Stopped", stop=STOP)
    result = on_cluster(decision, "orders", "--reason", "looks fine")
    assert result.exit_code == 0, result.output
    assert "Follow progress with: kubectl tunegate status orders --watch --namespace" in result.output
    recorded = json.loads(annotations(on_cluster)[f"tunegate.dev/{decision}"])
    assert recorded == {"stop": "sft-1-20", "reason": "looks fine"}


@pytest.mark.cluster
def test_decision_about_a_job_that_is_not_stopped_is_refused(on_cluster: CommandAt) -> None:
    job = on_cluster.place.create(manifests.finetunejob())
    for status in ({}, {"phase": "Failed", "stop": STOP, "completionTime": "2026-01-01T00:00:00Z"}):
        on_cluster.place.set_status(job, **status)
        result = on_cluster("continue", "orders", "--reason", "looks fine")
        assert result.exit_code == 1
        assert "FineTuneJob orders in namespace" in result.output
        assert "is not stopped by a gate: there is nothing to decide" in result.output
    assert annotations(on_cluster) == {}


@pytest.mark.cluster
def test_job_is_suspended_and_resumed(on_cluster: CommandAt) -> None:
    on_cluster.place.create(manifests.finetunejob())
    for command, value in (("suspend", True), ("resume", False)):
        result = on_cluster(command, "orders")
        assert result.exit_code == 0, result.output
        assert on_cluster.place.client.get("FineTuneJob", "orders")["spec"]["suspend"] is value
        assert "in Git" not in result.output


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("field", "mark", "tool"),
    [
        ("annotations", "argocd.argoproj.io/tracking-id", "Argo CD"),
        ("labels", "kustomize.toolkit.fluxcd.io/name", "Flux"),
    ],
)
def test_suspending_a_job_that_git_manages_warns(
    on_cluster: CommandAt, field: str, mark: str, tool: str
) -> None:
    job = manifests.finetunejob()
    on_cluster.place.create({**job, "metadata": {**job["metadata"], field: {mark: "team"}}})
    result = on_cluster("suspend", "orders")
    assert f"{tool} manages this job: also change spec.suspend in Git, or {tool} reverts it" in result.output


@pytest.mark.cluster
def test_ended_job_is_not_suspended(on_cluster: CommandAt) -> None:
    job = on_cluster.place.create(manifests.finetunejob())
    on_cluster.place.set_status(job, phase="Failed", completionTime="2026-01-01T00:00:00Z")
    result = on_cluster("suspend", "orders")
    assert result.exit_code == 1
    assert "has ended in phase Failed: it can neither be suspended nor resumed" in result.output


STATUSES = {
    "continue": {"phase": "Stopped", "stop": STOP},
    "discard": {"phase": "Stopped", "stop": STOP},
    "approve": {"phase": "AwaitingApproval", "final": PASSED},
    "override": {"phase": "AwaitingApproval", "final": PASSED | {"verdict": "Failed"}},
    "reject": {"phase": "AwaitingApproval", "final": PASSED},
}


@pytest.mark.parametrize("decision", STATUSES)
def test_reason_that_is_too_long_is_refused_on_this_machine(on_laptop: CommandAt, decision: str) -> None:
    assert_refuses_a_long_reason(on_laptop, decision)


@pytest.mark.cluster
@pytest.mark.parametrize("decision", STATUSES)
def test_reason_that_is_too_long_is_refused_on_a_cluster(on_cluster: CommandAt, decision: str) -> None:
    assert_refuses_a_long_reason(on_cluster, decision)


def assert_refuses_a_long_reason(command: CommandAt, decision: str) -> None:
    job = command.place.create(manifests.finetunejob())
    command.place.set_status(job, **STATUSES[decision])
    result = command(decision, "orders", "--reason", "理" * 2000)
    assert result.exit_code == 1
    assert "the reason is too long" in result.output
    assert "at most 4096 bytes" in result.output
    assert annotations(command) == {}


@pytest.mark.cluster
def test_long_reason_in_any_alphabet_is_recorded(on_cluster: CommandAt) -> None:
    job = on_cluster.place.create(manifests.finetunejob())
    on_cluster.place.set_status(job, phase="Stopped", stop=STOP)
    result = on_cluster("continue", "orders", "--reason", "理" * 600)
    assert result.exit_code == 0, result.output
    assert "理" * 600 in annotations(on_cluster)["tunegate.dev/continue"]


@pytest.mark.parametrize("command", ["suspend", "resume"])
def test_suspend_and_resume_of_laptop_job_point_to_ctrl_c(on_laptop: CommandAt, command: str) -> None:
    on_laptop.place.create(manifests.finetunejob())
    result = on_laptop(command, "orders")
    assert result.exit_code == 2
    assert "Ctrl-C suspends the jobs of `tunegate run`, and the same command resumes them" in result.output


@pytest.mark.parametrize("decision", ["continue", "discard"])
def test_decision_needs_a_reason(decision: str) -> None:
    for arguments in ([], ["--reason", " "]):
        result = CliRunner().invoke(main, [decision, "orders", *arguments])
        assert result.exit_code == 2
        assert "--reason" in result.output
