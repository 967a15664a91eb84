"""A job that is suspended in mid-training frees its node, and goes on where it was."""

import pytest

from support.node import Node
from support.tiny_job import LONG, TinyJob
from support.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def test_suspended_in_training_and_resumed(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    job.apply(LONG)
    job.wait_for_checkpoints(1)
    job.suspend(True)
    job.wait_for("Suspended")
    eventually(lambda: not job.pods("train"), seconds=90, what="its pod is gone", pause=0.5)
    before = job.stage().trained()
    assert len(before) < LONG["maxSteps"], "then this test shows nothing"

    job.suspend(False)
    status = job.ended()
    assert status["phase"] == "Succeeded", status["message"]
    assert job.child_jobs() == ["data 1", "gate 1", "publish 1", "train 2"]
    assert list(job.stage().losses()) == list(range(1, LONG["maxSteps"] + 1))
    assert job.stage().trained()[: len(before)] == before, "it went on where it was"
