"""After a training pod is killed, and after its replacement is evicted, the job resumes from its last
checkpoint."""

import pytest
import torch
from safetensors.torch import load_file

from support.node import Node
from support.tiny_job import LONG, TinyJob
from support.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def test_killed_and_evicted_trainer_resumes_from_its_checkpoint(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    job.apply(LONG)
    job.wait_for_checkpoints(1)
    before_the_kill = job.stage().trained()
    job.process("train").kill()

    def another_writes(count: int) -> None:
        eventually(lambda: job.stage().writers() == count, seconds=120, what="another pod writes", pause=0.5)

    another_writes(2)
    job.wait_for_checkpoints(len(job.stage().evaluated()) + 1)
    before_the_eviction = job.stage().trained()
    node.evict(namespace, job.pods("train")[0]["metadata"]["name"])
    another_writes(3)

    status = job.ended()
    assert status["phase"] == "Succeeded", status["message"]
    stage = job.stage()
    for before in (before_the_kill, before_the_eviction):
        assert 0 < len(before) < LONG["maxSteps"]
        assert stage.trained()[: len(before)] == before, "no step before a checkpoint was trained again"
    assert stage.writers() == 3
    assert list(stage.losses()) == list(range(1, LONG["maxSteps"] + 1)), (
        "each step once, and the same last one"
    )
    assert status["checkpoints"][-1]["step"] == LONG["maxSteps"]


def test_run_evicted_twice_trains_the_same_model_as_uninterrupted(node: Node, namespace: str) -> None:
    node.install()
    whole, evicted = TinyJob(node, namespace, "whole"), TinyJob(node, namespace, "evicted")
    whole.apply(LONG)
    assert whole.ended()["phase"] == "Succeeded"
    evicted.apply(LONG)
    seen = 0
    for writers in (2, 3):
        evicted.wait_for_checkpoints(seen + 1)
        node.evict(namespace, evicted.pods("train")[0]["metadata"]["name"])
        eventually(
            lambda writers=writers: evicted.stage().writers() == writers,
            seconds=120,
            what="another pod writes",
            pause=0.5,
        )
        seen = len(evicted.stage().checkpoints())
    status = evicted.ended()
    assert status["phase"] == "Succeeded", status["message"]
    assert evicted.stage().writers() == 3
    assert evicted.stage().losses() == whole.stage().losses()
    step = f"step-{LONG['maxSteps']:06d}/adapter_model.safetensors"
    one, other = (load_file(job.stage().path / step) for job in (whole, evicted))
    assert all(torch.equal(one[name], other[name]) for name in one), "bitwise"
