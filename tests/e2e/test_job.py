"""A complete job with a tiny model runs in the real images."""

from pathlib import Path

import pytest

from support.command import Command
from support.masking import masked_status
from support.node import Node
from support.tiny_job import TinyJob
from support.tiny_model import save_tiny_model
from support.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
CHILDREN = ("jobs,pods,configmaps", "-l", "tunegate.dev/job=orders", "-o", "name")


def test_job_has_the_same_status_as_on_a_laptop(node: Node, namespace: str, tmp_path: Path) -> None:
    node.install()
    job = TinyJob(node, namespace)
    job.apply()
    assert job.ended()["phase"] == "Succeeded", job.status()["message"]

    laptop = Command(tmp_path)
    here = tmp_path / "runs" / "volumes" / "models" / "tiny"
    here.mkdir(parents=True)
    save_tiny_model(here)
    laptop.write_all(job.manifests())
    done = laptop("run", "manifests")
    assert done.returncode == 0, done.stdout
    assert masked_status(job.get()) == masked_status(laptop.object())
    assert "sha256:" in job.status()["plan"]["image"]
    assert list(job.models.glob("orders/*/DONE")), "published"


def test_deleting_a_training_job_deletes_its_children(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    job.apply()
    job.wait_for("Training")
    assert node.kubectl("get", "-n", namespace, *CHILDREN)
    node.kubectl("delete", "ftj", "orders", "-n", namespace, "--timeout=60s")
    eventually(
        lambda: not node.kubectl("get", "-n", namespace, *CHILDREN),
        seconds=180,
        what="Jobs, Pods and ConfigMaps are deleted",
        pause=1,
    )
