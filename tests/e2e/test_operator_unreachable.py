"""A report that was not acknowledged, because the operator was unreachable, is sent by a follow-up pod."""

import pytest

from support.helm import NAMESPACE
from support.node import Node
from support.tiny_job import TinyJob
from support.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def test_report_missed_by_the_operator_arrives_by_report_job(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    job.apply()
    job.wait_for("Training")
    node.kubectl("scale", "deployment/tunegate", "-n", NAMESPACE, "--replicas=0")
    eventually(
        lambda: not job.pods("train"), seconds=300, what="the trainer ended while no operator ran", pause=1
    )
    node.install()
    status = job.ended()
    assert status["phase"] == "Succeeded", status["message"]
    assert job.child_jobs() == ["data 1", "gate 1", "publish 1", "report 1", "train 1"]
