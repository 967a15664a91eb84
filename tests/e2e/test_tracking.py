"""Tracking works in a hardened pod. Data of offline tracking is on the volume. If a tracker is unreachable, a
follow-up pod sends the remaining metrics."""

from contextlib import closing

import pytest

from support.mlflow_server import ProxyMode, TrackerProxy, runs_of
from support.node import Node
from support.tiny_job import TinyJob
from support.waiting import eventually
from support.wandb_records import records, summary_of
from tunegate_api.contract.workspace import Workspace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def test_offline_wandb_run_on_the_volume_has_the_verdict(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    offline = {"env": [{"name": "WANDB_MODE", "value": "offline"}]}
    job.apply(tracking={"wandb": {"project": "orders"}}, podTemplate=offline)
    assert job.ended()["phase"] == "Succeeded", job.status()["message"]
    uid = job.get()["metadata"]["uid"]
    folder = job.storage / Workspace(uid).tracking / "wandb"
    (of_job,) = folder.glob(f"offline-run-*-{uid}")
    (of_stage,) = folder.glob(f"offline-run-*-{uid}-sft")
    assert summary_of(records(of_job))["verdict"] == "Passed"
    verdicts = summary_of(records(of_stage))
    assert verdicts[f"verdict.step-{max(job.stage().losses()):06d}"] == "Passed"


def test_tracker_unreachable_until_the_job_ends_receives_the_verdict_later(
    node: Node, namespace: str, mlflow: str
) -> None:
    node.install()
    job = TinyJob(node, namespace)
    with closing(TrackerProxy(mlflow, node.host)) as proxy:
        proxy.mode = ProxyMode.CLOSED
        job.apply(tracking={"mlflow": {"uri": proxy.url, "experiment": namespace}})
        assert job.ended()["phase"] == "Succeeded", job.status()["message"]
        assert job.status()["tracking"]["behind"] == ["mlflow"]
        assert runs_of(mlflow, namespace) == {}
        proxy.mode = ProxyMode.FORWARD
        result = eventually(
            lambda: job.status()["tracking"].get("result"), seconds=300, pause=1, what="the metrics were sent"
        )
    assert result == "Succeeded", job.status()["tracking"]
    runs = runs_of(mlflow, namespace)
    assert runs["orders"].data.tags["tunegate.verdict"] == "Passed"
    assert {name: run.info.status for name, run in runs.items()} == dict.fromkeys(
        ("orders", "orders/sft"), "FINISHED"
    )
