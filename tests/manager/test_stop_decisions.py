"""``tunegate continue`` and ``tunegate discard`` write a decision to a cluster."""

import json
from typing import Any

import pytest

from support.command import Command
from support.team import Team
from tunegate_operator.names import CONTINUE_ANNOTATION, DISCARD_ANNOTATION

pytestmark = pytest.mark.cluster

STOP = {
    "id": "sft-1-35",
    "stage": "sft",
    "step": 35,
    "gate": "golden",
    "reason": "GoldenRegression",
    "message": "golden 85/100 at step 35, best 95/100 at step 20",
    "time": "2026-01-01T00:00:00Z",
}


@pytest.fixture
def tunegate(server, tmp_path) -> Command:
    return Command(tmp_path, {"KUBECONFIG": str(server.kubeconfig)})


def annotations(team: Team) -> dict[str, Any]:
    found: dict[str, Any] = team.job()["metadata"].get("annotations", {})
    return found


@pytest.mark.parametrize(
    ("command", "annotation"), [("continue", CONTINUE_ANNOTATION), ("discard", DISCARD_ANNOTATION)]
)
def test_decision_names_the_current_stop(team, tunegate, command, annotation):
    team.apply_all()
    team.set_status({"phase": "Stopped", "stop": STOP})
    result = tunegate(command, "orders", "--namespace", team.namespace, "--reason", "an old format")
    assert result.returncode == 0, result.stdout
    assert f"kubectl get ftj orders --namespace {team.namespace}" in result.stdout
    assert json.loads(annotations(team)[annotation]) == {"stop": "sft-1-35", "reason": "an old format"}


def test_decision_about_a_running_job_is_refused(team, tunegate):
    team.apply_all()
    result = tunegate("discard", "orders", "--namespace", team.namespace, "--reason", "too slow")
    assert result.returncode == 1
    assert f"FineTuneJob orders in namespace {team.namespace} is not stopped by a gate" in result.stdout
    assert annotations(team) == {}


def test_decision_about_an_ended_job_is_refused(team, tunegate):
    team.apply_all()
    team.set_status({"phase": "Failed", "stop": STOP, "completionTime": "2026-01-01T01:00:00Z"})
    result = tunegate("continue", "orders", "--namespace", team.namespace, "--reason", "after all")
    assert result.returncode == 1
    assert f"FineTuneJob orders in namespace {team.namespace} is not stopped by a gate" in result.stdout
    assert annotations(team) == {}


def test_missing_job_is_named(team, tunegate):
    result = tunegate("continue", "orders", "--namespace", team.namespace, "--reason", "why not")
    assert result.returncode == 1
    assert 'finetunejobs.tunegate.dev "orders" not found' in result.stdout


def test_decision_without_a_reason_is_refused(tunegate):
    result = tunegate("continue", "orders", "--namespace", "team", "--reason", " ")
    assert result.returncode == 2
    assert "Invalid value for '--reason': must not be blank" in result.stdout


def test_missing_kubeconfig_error_names_the_variable_to_set(tmp_path):
    tunegate = Command(tmp_path, {"KUBECONFIG": str(tmp_path / "none"), "HOME": str(tmp_path)})
    result = tunegate("continue", "orders", "--namespace", "team", "--reason", "why not")
    assert result.returncode == 1
    assert "no cluster is configured: " in result.stdout
    assert "set KUBECONFIG" in result.stdout


def test_unreachable_cluster_is_reported_in_one_line(server, tmp_path):
    config = tmp_path / "config"
    config.write_text(server.kubeconfig.read_text().replace(f":{server.port}", ":1"))
    tunegate = Command(tmp_path, {"KUBECONFIG": str(config)})
    result = tunegate("continue", "orders", "--namespace", "team", "--reason", "why not")
    assert result.returncode == 1
    assert "Error: the cluster is unreachable: " in result.stdout
    assert "Traceback" not in result.stdout
