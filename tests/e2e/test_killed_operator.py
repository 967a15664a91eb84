"""What runs a job goes away and comes back: the operator, the API server, the address of the reports."""

import json
import time

import pytest

from support.helm import NAMESPACE
from support.node import Node
from support.tiny_job import LONG, TinyJob

pytestmark = pytest.mark.timeout(1800)
ONE_OF_EACH = ["data 1", "gate 1", "publish 1", "train 1"]
AWAY_SECONDS = 120
SERVICE = ("endpointslice", "tunegate-reports", "-n", NAMESPACE)


def assert_nothing_was_lost(job: TinyJob) -> None:
    """It succeeded: one Job for each role, one writer, every step once, and every checkpoint in status."""
    status = job.ended()
    assert status["phase"] == "Succeeded", status["message"]
    assert job.child_jobs() == ONE_OF_EACH
    stage = job.stage()
    assert stage.writers() == 1
    assert list(stage.losses()) == list(range(1, max(stage.losses()) + 1))
    steps = [point["step"] for point in status["checkpoints"]]
    assert steps[-1] == max(stage.losses())
    assert set(stage.checkpoints()) <= set(steps)


@pytest.mark.e2e
def test_an_operator_that_is_killed_in_each_phase_loses_nothing(node: Node, namespace: str) -> None:
    node.install(replicas=2)
    job = TinyJob(node, namespace)
    job.apply(LONG)
    try:
        for phase in ("Validating", "Training", "Gating", "Publishing"):
            job.wait_for(phase)
            node.process(node.leader()).kill()
        assert_nothing_was_lost(job)
    finally:
        node.install()


@pytest.mark.e2e
def test_an_api_server_that_is_killed_in_training_loses_nothing(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    job.apply(LONG)
    job.wait_for_checkpoints(1)
    node.restart("kube-apiserver")
    assert_nothing_was_lost(job)


@pytest.mark.e2e_full
def test_reports_wait_while_nobody_can_be_reached(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    job.apply(LONG)
    job.wait_for("Training")
    endpoints = node.get("endpointslice", "tunegate-reports", NAMESPACE)["endpoints"]
    nowhere = [{**endpoints[0], "addresses": ["192.0.2.1"]}]
    node.kubectl("patch", *SERVICE, "--type=merge", "-p", json.dumps({"endpoints": nowhere}))
    before = job.status().get("checkpoints", [])
    time.sleep(AWAY_SECONDS)
    assert job.stage().checkpoints(), "it went on"
    assert job.status().get("checkpoints", []) == before, "and nobody heard of it"
    node.kubectl("patch", *SERVICE, "--type=merge", "-p", json.dumps({"endpoints": endpoints}))
    status = job.ended()
    assert status["phase"] == "Succeeded", status["message"]
    assert [point["step"] for point in status["checkpoints"]][-1] == LONG["maxSteps"]
    assert job.stage().writers() == 1
