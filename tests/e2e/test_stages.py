"""SFT, then DPO on the same adapter, each in a pod of its own."""

import json

import pytest

from support.builders import make_config_map
from support.node import Node
from support.tiny_job import TinyJob

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
SHORT = {"batchSize": 4, "maxLength": 128, "seed": 1}


def test_a_second_stage_goes_on_from_the_first(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    pairs = [{"prompt": f"order {i}: mug", "chosen": "yes", "rejected": "no thanks"} for i in range(40)]
    objects = job.manifests(
        stages=[
            {
                "name": "sft",
                "method": "SFT",
                "adapter": {"type": "LoRA", "r": 8},
                "training": {"maxSteps": 15, "learningRate": "0.01", **SHORT},
            },
            {
                "name": "dpo",
                "method": "DPO",
                "adapter": {"from": "Previous"},
                "training": {"maxSteps": 6, "learningRate": "0.002", **SHORT},
            },
        ],
        data={
            "goal": "StyleOrFormat",
            "sizePolicy": "Warn",
            "train": {"configMap": "rows"},
            "preference": {"configMap": "pairs"},
            "heldOut": {"fraction": "0.25"},
        },
        taskMetrics=[{"name": "preference_accuracy", "min": "0.9"}],
        evaluateEvery={"fraction": "0.5"},
    )
    lines = "".join(json.dumps(pair) + "\n" for pair in pairs)
    node.apply(namespace, make_config_map("pairs", pairs__jsonl=lines), *objects)

    status = job.ended()
    assert status["phase"] == "Succeeded", status["message"]
    assert [c["stage"] for c in status["checkpoints"]] == ["sft", "sft", "dpo", "dpo"]
    assert status["final"]["task"]["preference_accuracy"] == "1.00"
    assert [entry["state"] for entry in status["lifecycle"]] == ["Succeeded"] * 6 + ["NotRequested"]
    assert job.child_jobs() == ["data 1", "gate 1", "publish 1", "train 1", "train 1"]
    published = job.models / status["published"][0]["uri"].removeprefix("pvc://models/")
    assert (published / "adapter_model.safetensors").exists()
