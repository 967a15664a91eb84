"""The operator's process on a real API server refuses jobs without the gates that the namespace requires."""

import pytest
from kubernetes import client

from support.builders import golden_text, make_config_map, make_gate, make_job
from support.operator_command import operator

pytestmark = pytest.mark.cluster
PATCH = {"metadata": {"annotations": {"tunegate.dev/required-gates": "golden, policy"}}}


def test_job_older_than_required_gates_fails_at_start(server, team, tmp_path):
    rows = make_config_map("rows", train__jsonl="{}")
    cases = make_config_map("cases", golden__jsonl=golden_text())
    team.apply(rows, cases, make_gate().obj(), make_job().with_spec(suspend=True).obj())
    client.CoreV1Api(team.api).patch_namespace(team.namespace, PATCH)
    log = tmp_path / "operator.log"
    with operator(server, log):
        team.wait_for("Suspended")
        team.change(suspend=False)
        team.wait_for("Failed")
    failure = team.job()["status"]["failure"]
    assert failure["reason"] == "RequiredGatesMissing"
    assert failure["message"].endswith("required of every job: policy (by the namespace)")
    assert team.jobs() == []
    assert "forbidden" not in log.read_text().lower()


def test_job_fails_without_the_gates_in_the_operators_settings(server, team, tmp_path):
    with operator(server, tmp_path / "operator.log", TUNEGATE_REQUIRED_GATES="privacy"):
        team.apply_all()
        team.wait_for("Failed")
    failure = team.job()["status"]["failure"]
    assert failure["reason"] == "RequiredGatesMissing"
    assert failure["message"].endswith("required of every job: privacy (by the cluster)")
