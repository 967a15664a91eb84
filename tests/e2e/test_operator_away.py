"""The operator is away while a pod ends: a small pod brings the report that the pod could not deliver."""

import pytest

from support.helm import NAMESPACE
from support.node import Node
from support.tiny_job import TinyJob
from support.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def test_a_report_that_nobody_took_is_brought_by_a_pod_of_its_own(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    job.apply()
    job.wait_for("Training")
    node.kubectl("scale", "deployment/tunegate", "-n", NAMESPACE, "--replicas=0")
    eventually(lambda: not job.pods("train"), seconds=300, what="the trainer has ended unheard", pause=1)
    node.install()
    status = job.ended()
    assert status["phase"] == "Succeeded", status["message"]
    assert job.child_jobs() == ["data 1", "gate 1", "publish 1", "report 1", "train 1"]
