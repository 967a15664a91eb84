"""The commands that decide about a final verdict, for a job on a cluster: on a real API server."""

import json

import pytest
from click.testing import CliRunner

from support import manifests
from support.places import CommandAt
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
@pytest.mark.parametrize(
    ("action", "verdict"),
    [("approve", "Passed"), ("override", "Failed"), ("override", "Inconclusive"), ("reject", "Failed")],
)
def test_decision_names_the_verdict_and_the_api_server_user(
    on_cluster: CommandAt, action: str, verdict: str
) -> None:
    job = on_cluster.place.create(manifests.finetunejob())
    on_cluster.place.set_status(job, phase="AwaitingApproval", final=PASSED | {"verdict": verdict})
    result = on_cluster(action, "orders", "--reason", 'a "good" reason')
    assert result.exit_code == 0, result.output
    assert "Follow progress with: kubectl tunegate status orders --watch --namespace" in result.output
    recorded = json.loads(annotations(on_cluster)[f"tunegate.dev/{action}"])
    assert recorded["by"], "the name of the user"
    assert recorded == {"verdict": "b" * 64, "by": recorded["by"], "reason": 'a "good" reason'}


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("action", "status", "message"),
    [
        ("approve", {}, "does not wait for a decision about its final verdict: it is Pending"),
        ("approve", {"phase": "Failed", "final": PASSED}, "final verdict: it is Failed"),
        (
            "override",
            {"phase": "AwaitingApproval", "final": PASSED},
            "the verdict of FineTuneJob orders is Passed: approve or reject it",
        ),
        (
            "approve",
            {"phase": "AwaitingApproval", "final": PASSED | {"verdict": "Failed"}},
            "the verdict of FineTuneJob orders is Failed: override or reject it",
        ),
    ],
)
def test_decision_that_the_job_does_not_wait_for_is_refused(
    on_cluster: CommandAt, action: str, status: Object, message: str
) -> None:
    job = on_cluster.place.create(manifests.finetunejob())
    on_cluster.place.set_status(job, **status)
    result = on_cluster(action, "orders", "--reason", "looks fine")
    assert result.exit_code == 1
    assert message in result.output
    assert annotations(on_cluster) == {}


@pytest.mark.parametrize("action", ["approve", "override", "reject"])
def test_decision_about_a_verdict_needs_a_reason(action: str) -> None:
    for arguments in ([], ["--reason", " "]):
        result = CliRunner().invoke(main, [action, "orders", *arguments])
        assert result.exit_code == 2
        assert "--reason" in result.output
