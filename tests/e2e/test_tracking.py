"""A tracker's client works in a hardened pod: what it keeps is on the volume."""

import pytest

from support.node import Node
from support.tiny_job import TinyJob
from support.wandb_records import records, summary_of
from tunegate_api.workspace import Workspace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def test_an_offline_run_is_on_the_volume_with_the_verdict(node: Node, namespace: str) -> None:
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
