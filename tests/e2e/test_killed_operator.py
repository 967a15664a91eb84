"""A job survives outages of the operator, of the API server and of the report address."""

import json
import time

import pytest

from support.helm import NAMESPACE
from support.node import Node
from support.tiny_job import LONG, TinyJob
from support.waiting import eventually

pytestmark = pytest.mark.timeout(1800)
ONE_OF_EACH = ["data 1", "gate 1", "publish 1", "train 1"]
OUTAGE_SECONDS = 120
SETTLE_SECONDS = 5
"""Seconds until the node no longer forwards connections to the Service's old port."""


def assert_nothing_was_lost(job: TinyJob) -> None:
    """Check that the job succeeded, with one Job per role (and at most one more for late reports), one
    process that wrote to the stage's folder, each optimizer step trained once, and every checkpoint in
    status."""
    status = job.ended()
    assert status["phase"] == "Succeeded", status["message"]
    assert [one for one in job.child_jobs() if not one.startswith("report ")] == ONE_OF_EACH
    stage = job.stage()
    assert stage.writers() == 1
    assert list(stage.losses()) == list(range(1, max(stage.losses()) + 1))
    steps = [point["step"] for point in status["checkpoints"]]
    assert steps[-1] == max(stage.losses())
    assert set(stage.checkpoints()) <= set(steps)


@pytest.mark.e2e
def test_job_survives_a_kill_of_the_operator_in_each_phase(node: Node, namespace: str) -> None:
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
def test_queued_job_survives_a_kill_of_the_operator(node: Node, namespace: str) -> None:
    node.install(replicas=2)
    job = TinyJob(node, namespace)
    job.apply(LONG)
    every_node = ("--selector", "kubernetes.io/os=linux")
    try:
        eventually(lambda: are_running(job, "data"), seconds=120, what="the data pod runs", pause=0.3)
        node.kubectl("cordon", *every_node)
        job.wait_for_reason("PodUnschedulable")
        assert job.status()["phase"] == "Queued"
        node.process(node.leader()).kill()
        node.kubectl("uncordon", *every_node)
        assert_nothing_was_lost(job)
    finally:
        node.kubectl("uncordon", *every_node)
        node.install()


@pytest.mark.e2e
def test_job_survives_operator_kills_while_it_waits_or_is_suspended(node: Node, namespace: str) -> None:
    node.install(replicas=2)
    job = TinyJob(node, namespace)
    objects = {obj["metadata"]["name"]: obj for obj in job.manifests(LONG)}
    rows = objects.pop("rows")
    node.apply(namespace, *objects.values())
    try:
        job.wait_for_reason("ConfigMapNotFound")
        assert job.status()["phase"] == "Pending"
        node.process(node.leader()).kill()
        node.apply(namespace, rows)

        job.wait_for_checkpoints(1)
        job.suspend(True)
        job.wait_for("Suspended")
        node.process(node.leader()).kill()
        job.suspend(False)
        status = job.ended()
        assert status["phase"] == "Succeeded", status["message"]
        assert job.child_jobs() == ["data 1", "gate 1", "publish 1", "train 2"]
        assert list(job.stage().losses()) == list(range(1, LONG["maxSteps"] + 1))
    finally:
        node.install()


@pytest.mark.e2e
def test_training_job_survives_a_kill_of_the_api_server(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    job.apply(LONG)
    job.wait_for_checkpoints(1)
    node.restart("kube-apiserver")
    assert_nothing_was_lost(job)


@pytest.mark.e2e_full
def test_reports_are_retried_while_the_operator_is_unreachable(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    job.apply(LONG)
    job.wait_for("Training")
    port = node.get("service", "tunegate-reports", NAMESPACE)["spec"]["ports"][0]["port"]
    serve_reports_at(node, port + 1)
    try:
        time.sleep(SETTLE_SECONDS)
        before = job.status().get("checkpoints", [])
        time.sleep(OUTAGE_SECONDS)
        assert len(job.stage().evaluated()) > len(before), "training continues"
        assert job.status().get("checkpoints", []) == before, "no report arrived"
    finally:
        serve_reports_at(node, port)
    assert_nothing_was_lost(job)


def are_running(job: TinyJob, role: str) -> bool:
    return any(pod["status"]["phase"] == "Running" for pod in job.pods(role))


def serve_reports_at(node: Node, port: int) -> None:
    """Change the port of the report Service. Pods use the original port, so their reports fail while the port
    is different."""
    patch = json.dumps([{"op": "replace", "path": "/spec/ports/0/port", "value": port}])
    service = ("service", "tunegate-reports", "-n", NAMESPACE)
    node.kubectl("patch", *service, "--type=json", "-p", patch)
