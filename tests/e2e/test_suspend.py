"""A job that is suspended during training frees its node, and resumes from its checkpoint."""

import pytest

from support.node import Node
from support.tiny_job import LONG, TinyJob
from support.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def test_job_suspended_during_training_resumes_from_its_checkpoint(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    job.apply(LONG)
    job.wait_for_checkpoints(1)
    job.suspend(True)
    job.wait_for("Suspended")
    eventually(lambda: not job.pods("train"), seconds=90, what="its pod has ended", pause=0.5)
    before = job.stage().trained()
    assert len(before) < LONG["maxSteps"], "the suspension came too late to test anything"

    job.suspend(False)
    status = job.ended()
    assert status["phase"] == "Succeeded", status["message"]
    assert job.child_jobs() == ["data 1", "gate 1", "publish 1", "train 2"]
    assert list(job.stage().losses()) == list(range(1, LONG["maxSteps"] + 1))
    assert job.stage().trained()[: len(before)] == before, "it resumed from its checkpoint"
