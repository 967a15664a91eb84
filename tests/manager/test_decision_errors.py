"""Errors of the commands that decide about a job on a cluster."""

import pytest

from support.command import Command

pytestmark = pytest.mark.cluster


@pytest.fixture
def tunegate(server, tmp_path) -> Command:
    return Command(tmp_path, {"KUBECONFIG": str(server.kubeconfig)})


def test_error_of_a_missing_job_has_its_name(team, tunegate):
    result = tunegate("continue", "orders", "--namespace", team.namespace, "--reason", "why not")
    assert result.returncode == 1
    assert f"there is no FineTuneJob orders in namespace {team.namespace}" in result.stdout


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
    assert "the cluster is unreachable: " in result.stdout
    assert "Traceback" not in result.stdout
