"""A job's status names the object that the job waits for. The job continues once this object exists."""

from collections.abc import Iterator

import pytest

from support.node import Node
from support.tiny_job import TinyJob

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def test_job_waits_for_missing_data(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    objects = {obj["metadata"]["name"]: obj for obj in job.manifests()}
    rows = objects.pop("rows")
    node.apply(namespace, *objects.values())
    assert "rows" in job.wait_for_reason("ConfigMapNotFound")
    node.apply(namespace, rows)
    job.wait_for("Training")


def test_job_waits_for_a_missing_gate_then_volume_then_secret(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    tracking = {"mlflow": {"uri": "http://mlflow.invalid", "experiment": "orders", "secretName": "mlflow"}}
    storage = {"persistentVolumeClaim": "later"}
    objects = {obj["kind"]: obj for obj in job.manifests(tracking=tracking, storage=storage)}
    gate = objects.pop("EvalGate")
    rows, cases = (obj for obj in job.manifests() if obj["kind"] == "ConfigMap")
    node.apply(namespace, rows, cases, objects["FineTuneJob"])
    assert gate["metadata"]["name"] in job.wait_for_reason("GateNotFound")
    node.apply(namespace, gate)
    assert "later" in job.wait_for_reason("VolumeNotReady")
    node.volume(namespace, "later")
    assert "mlflow" in job.wait_for_reason("SecretNotFound")
    node.kubectl("create", "secret", "generic", "mlflow", "-n", namespace, "--from-literal=token=none")
    job.wait_for("Training")


def test_job_waits_while_the_pod_quota_is_exceeded(node: Node, namespace: str) -> None:
    node.install()
    node.kubectl("create", "quota", "team", "-n", namespace, "--hard=pods=0")
    job = TinyJob(node, namespace)
    job.apply()
    assert "exceeded quota: team" in job.wait_for_reason("QuotaExceeded")
    node.kubectl("delete", "quota", "team", "-n", namespace)
    job.wait_for("Training")


def test_job_waits_for_a_gpu(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    job.apply(resources={"accelerator": "GPU"})
    assert "nvidia.com/gpu" in job.wait_for_reason("PodUnschedulable")
    assert job.status()["phase"] == "Queued"


@pytest.fixture
def wrong_trainer_image(node: Node) -> Iterator[str]:
    image = "localhost/no-such-trainer:1"
    node.install(trainer_image=image)
    yield image
    node.install()


def test_status_names_the_image_that_cannot_be_pulled(
    node: Node, namespace: str, wrong_trainer_image: str
) -> None:
    job = TinyJob(node, namespace)
    job.apply()
    assert wrong_trainer_image in job.wait_for_reason("ImagePull")
