"""A whole job with a tiny model, in the real images."""

import os
from pathlib import Path
from typing import Any

import pytest

from support.command import Command, manifests
from support.masking import masked_status
from support.node import Node
from support.tiny_model import save_tiny_model
from support.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def apply_tiny_job(node: Node, namespace: str, **changes: Any) -> Path:
    """A job that tunes a tiny model on the volume ``models``, and publishes there. Returns that folder."""
    node.volume(namespace, "tuning")
    models = node.volume(namespace, "models")
    save_tiny_model(models / "tiny")
    for path in [models / "tiny", *(models / "tiny").iterdir()]:
        os.chown(path, 65532, 65532)
    changes = {"model": {"uri": "pvc://models/tiny"}, **changes}
    node.apply(namespace, *manifests(models / "tiny", **changes))
    return models


def test_a_job_is_what_it_would_be_on_a_laptop(node: Node, namespace: str, tmp_path: Path) -> None:
    node.install()
    models = apply_tiny_job(node, namespace)
    job = node.ended_job("orders", namespace, seconds=600)
    assert job["status"]["phase"] == "Succeeded", job["status"]["message"]

    laptop = Command(tmp_path)
    here = tmp_path / "runs" / "volumes" / "models" / "tiny"
    here.mkdir(parents=True)
    save_tiny_model(here)
    done = laptop("run", laptop.write(here, model={"uri": "pvc://models/tiny"}))
    assert done.returncode == 0, done.stdout
    assert masked_status(job) == masked_status(laptop.object())
    assert list(models.glob("orders/*/DONE")), "published"


def test_deleting_a_job_in_training_leaves_nothing_of_it(node: Node, namespace: str) -> None:
    node.install()
    apply_tiny_job(node, namespace)
    eventually(
        lambda: node.get("ftj", "orders", namespace).get("status", {}).get("phase") == "Training",
        seconds=240,
        what="it trains",
        pause=1,
    )
    selector = "tunegate.dev/job=orders"
    assert node.kubectl("get", "jobs,pods,configmaps", "-n", namespace, "-l", selector, "-o", "name")
    node.kubectl("delete", "ftj", "orders", "-n", namespace, "--timeout=60s")

    def gone() -> bool:
        return not node.kubectl("get", "jobs,pods,configmaps", "-n", namespace, "-l", selector, "-o", "name")

    eventually(gone, seconds=180, what="Jobs, Pods and ConfigMaps are gone", pause=1)
