"""After a failure that a retry cannot solve, the job fails at once, with a reason and a hint."""

import pytest

from support.node import Node
from support.tiny_job import TinyJob

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def test_job_with_too_little_memory_fails_with_out_of_memory(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    job.apply(resources={"accelerator": "CPU", "cpu": "1", "memory": "192Mi"})
    status = job.ended()
    assert status["phase"] == "Failed"
    assert status["failure"]["reason"] == "OutOfMemory", status["failure"]
    assert "resources.memory" in status["failure"]["hint"]


def test_job_with_bad_rows_fails_before_training(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    objects = {obj["metadata"]["name"]: obj for obj in job.manifests()}
    data = objects["rows"]["data"]
    data["train.jsonl"] = data["train.jsonl"].replace('{"prompt": "order 2920:', '{"promt": "order 2920:')
    node.apply(namespace, *objects.values())
    status = job.ended()
    assert status["phase"] == "Failed"
    assert status["failure"]["reason"] == "BadData", status["failure"]
    assert "3" in status["failure"]["message"], "the line"
    assert "train" not in " ".join(job.child_jobs()), "no GPU was asked for"


def test_job_with_a_missing_model_fails_with_not_found(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    job.apply(model={"uri": "pvc://models/not-there"})
    status = job.ended()
    assert status["phase"] == "Failed"
    assert status["failure"]["reason"] == "NotFound", status["failure"]
    assert "not-there" in status["failure"]["message"]
