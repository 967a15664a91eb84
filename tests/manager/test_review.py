"""Scores that a user applies with kubectl let a job that awaits its review continue within seconds."""

from pathlib import Path

import pytest
import yaml

from support.api_server import ApiServer
from support.builders import golden_text, make_config_map, make_gate, make_job, make_scores
from support.fake_kubelet import FakeKubelet
from support.kubectl import Kubectl
from support.operator_command import operator
from support.team import Team
from support.waiting import eventually
from support.world import SAMPLE

pytestmark = pytest.mark.cluster

IDS = [row.id for row in SAMPLE.rows]


def apply_job(team: Team) -> None:
    data = make_job().obj()["spec"]["data"] | {"quality": {"sample": "10%", "minScore": "80%"}}
    rows, cases = (
        make_config_map("rows", train__jsonl="{}"),
        make_config_map("cases", golden__jsonl=golden_text()),
    )
    team.apply(rows, cases, make_gate().obj(), make_job().with_spec(data=data).with_publish().obj())


def test_review_that_arrives_by_kubectl_lets_a_waiting_job_continue(
    server: ApiServer, team: Team, kubelet: FakeKubelet, tmp_path: Path
) -> None:
    kubectl = Kubectl(tmp_path, server.kubeconfig, team.namespace)
    half = dict.fromkeys(IDS[:5], True)
    rest = dict.fromkeys(IDS[5:], True) | {IDS[9]: {"good": False, "note": "wrong total"}}
    for reviewer, scores in (("ana", half), ("ben", rest)):
        made = make_scores(f"scores-{reviewer}", SAMPLE.sha256, reviewer=reviewer, **scores)
        made["metadata"].pop("namespace")
        (tmp_path / f"{reviewer}.yaml").write_text(yaml.safe_dump(made))
    with operator(server, tmp_path / "operator.log"), kubelet.running():
        apply_job(team)
        team.wait_for("AwaitingReview", "Failed")
        assert "0 of 10 rows" in team.job()["status"]["message"]
        assert [name.split("-")[1] for name in team.jobs()] == ["data"]

        assert kubectl("apply", "-f", str(tmp_path / "ana.yaml")).returncode == 0
        eventually(
            lambda: "5 of 10 rows" in team.job()["status"]["message"], seconds=15, what="half is scored"
        )
        assert team.phase() == "AwaitingReview"

        assert kubectl("apply", "-f", str(tmp_path / "ben.yaml")).returncode == 0
        eventually(lambda: team.phase() != "AwaitingReview", seconds=15, what="the job continues")
        assert "unchanged" in kubectl("apply", "-f", str(tmp_path / "ben.yaml")).stdout
        team.wait_for("Succeeded", "Failed", seconds=90)
    status = team.job()["status"]
    assert status["phase"] == "Succeeded", status["message"]
    assert status["data"]["reviewScore"] == "0.90"
    assert status["data"]["review"]["reviewers"] == ["ana", "ben"]
    assert kubelet.failures == []
