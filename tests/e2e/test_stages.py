"""A job trains an adapter with SFT, and then the same adapter with DPO, each stage in its own pod."""

import pytest

from support.command import DPO_AFTER_SFT, preference_pairs
from support.node import Node
from support.tiny_job import TinyJob

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def test_dpo_stage_continues_the_adapter_of_the_sft_stage(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    metrics = [{"name": "preference_accuracy", "type": "PreferenceAccuracy", "min": "90%"}]
    node.apply(namespace, preference_pairs(), *job.manifests(taskMetrics=metrics, **DPO_AFTER_SFT))

    status = job.ended()
    assert status["phase"] == "Succeeded", status["message"]
    assert [c["stage"] for c in status["checkpoints"]] == ["sft", "sft", "dpo", "dpo"]
    assert status["final"]["task"]["preference_accuracy"] == "1.00"
    assert [entry["state"] for entry in status["lifecycle"]] == ["Succeeded"] * 6 + ["NotRequested"]
    assert job.child_jobs() == ["data 1", "gate 1", "publish 1", "train 1", "train 1"]
    published = job.models / status["published"][0]["uri"].removeprefix("pvc://models/")
    assert (published / "adapter_model.safetensors").exists()
