"""A training pod that is killed, and then evicted: the run goes on from its last checkpoint."""

import json

import pytest

from support.node import Node
from support.tiny_job import LONG, TinyJob
from support.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def evict(node: Node, namespace: str, pod: str) -> None:
    """As ``kubectl drain`` does."""
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": namespace},
    }
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    node.kubectl("create", "--raw", path, "-f", "-", text=json.dumps(eviction))


def test_a_killed_and_an_evicted_trainer_are_followed_by_others(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    job.apply(LONG)
    job.wait_for_checkpoints(1)
    job.process("train").kill()

    def another_writes(count: int) -> None:
        eventually(lambda: job.stage().writers() == count, seconds=120, what="another pod writes", pause=0.5)

    another_writes(2)
    resumed_from = max(job.stage().checkpoints())
    job.wait_for_checkpoints(len(job.stage().evaluated()) + 1)
    evict(node, namespace, job.pods("train")[0]["metadata"]["name"])
    another_writes(3)

    status = job.ended()
    assert status["phase"] == "Succeeded", status["message"]
    assert resumed_from > 0
    stage = job.stage()
    assert stage.writers() == 3
    assert list(stage.losses()) == list(range(1, LONG["maxSteps"] + 1)), (
        "each step once, and the same last one"
    )
    assert status["checkpoints"][-1]["step"] == LONG["maxSteps"]
