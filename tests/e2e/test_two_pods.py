"""Two pods train the same model as one pod, even if one of the two pods is evicted."""

import pytest
import torch
from safetensors.torch import load_file

from support.node import Node
from support.tiny_job import LONG, TinyJob
from support.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

CORES = {"accelerator": "CPU", "cpu": "500m"}
"""Resources of each pod. Two such pods and the system's pods fit on a node with two cores."""
TWO = CORES | {"nodes": 2}
ALL_WEIGHTS = {"name": "sft", "method": "SFT", "training": LONG | {"maxSteps": 20, "learningRate": "0.003"}}
"""A stage that trains in float32 on each CPU. An adapter trains in bfloat16 on some, and rounding would then
hide whether two pods compute the same."""
ROUNDING = 1e-4
"""Relative tolerance in float32: two pods, which each sum half of a batch, round differently than one pod."""


def weights(job: TinyJob) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(job.stage().path / "step-000020" / "model.safetensors")
    return found


def assert_same_model(one: TinyJob, other: TinyJob) -> None:
    theirs = weights(other)
    for name, tensor in weights(one).items():
        assert torch.dist(tensor, theirs[name]) < ROUNDING * tensor.norm(), name


def test_two_pods_train_one_model(node: Node, namespace: str) -> None:
    node.install()
    one_pod, two_pods = TinyJob(node, namespace, "one-pod"), TinyJob(node, namespace, "two-pods")
    for job, resources in ((one_pod, CORES), (two_pods, TWO)):
        job.apply(stages=[ALL_WEIGHTS], resources=resources)
        status = job.ended()
        assert status["phase"] == "Succeeded", status["message"]
    assert two_pods.stage().losses() == pytest.approx(one_pod.stage().losses(), rel=ROUNDING)
    assert_same_model(one_pod, two_pods)
    assert [c["task"] for c in two_pods.status()["checkpoints"]] == [
        c["task"] for c in one_pod.status()["checkpoints"]
    ]
    assert two_pods.stage().writers() == 1, "of two pods"
    assert two_pods.child_jobs() == ["data 1", "gate 1", "publish 1", "train 1"]


def test_eviction_of_one_of_two_pods_restarts_both_pods(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    job.apply(LONG, resources=TWO)
    job.wait_for_checkpoints(1)
    node.evict(namespace, job.pods("train")[1]["metadata"]["name"])
    eventually(lambda: job.stage().writers() == 2, seconds=120, what="both pods restart", pause=0.5)

    status = job.ended()
    assert status["phase"] == "Succeeded", status["message"]
    assert list(job.stage().losses()) == list(range(1, LONG["maxSteps"] + 1)), "each step once"
    assert job.child_jobs() == ["data 1", "gate 1", "publish 1", "train 1", "train 2"]
    assert [attempt["result"] for attempt in status["attempts"][1:3]] == ["Evicted", "Succeeded"]
    node.kubectl("delete", "ftj", job.name, "-n", namespace)
    eventually(
        lambda: not node.items("services", namespace, "tunegate.dev/job=orders"),
        seconds=60,
        what="its Service is deleted, too",
        pause=0.5,
    )
