"""A whole job with a tiny model, in the real images."""

from pathlib import Path

import pytest

from support.command import Command
from support.masking import masked_status
from support.node import Node
from support.tiny_job import TinyJob
from support.tiny_model import save_tiny_model
from support.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
OF_IT = ("jobs,pods,configmaps", "-l", "tunegate.dev/job=orders", "-o", "name")


def test_a_job_is_what_it_would_be_on_a_laptop(node: Node, namespace: str, tmp_path: Path) -> None:
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
    assert list(job.models.glob("orders/*/DONE")), "published"


def test_deleting_a_job_in_training_leaves_nothing_of_it(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    job.apply()
    job.wait_for("Training")
    assert node.kubectl("get", "-n", namespace, *OF_IT)
    node.kubectl("delete", "ftj", "orders", "-n", namespace, "--timeout=60s")
    eventually(
        lambda: not node.kubectl("get", "-n", namespace, *OF_IT),
        seconds=180,
        what="Jobs, Pods and ConfigMaps are gone",
        pause=1,
    )


def test_applied_again_it_is_a_new_run(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    job.apply()
    job.wait_for_checkpoints(1)
    first = job.stage()
    node.kubectl("delete", "ftj", "orders", "-n", namespace, "--timeout=60s")
    job.apply()
    assert job.ended()["phase"] == "Succeeded", job.status()["message"]
    assert job.child_jobs() == ["data 1", "gate 1", "publish 1", "train 1"]
    assert job.stage().path != first.path
    assert job.stage().writers() == 1


def test_two_jobs_at_once_share_a_volume(node: Node, namespace: str) -> None:
    node.install()
    one, two = TinyJob(node, namespace, "one"), TinyJob(node, namespace, "two")
    one.apply()
    two.apply()
    assert [job.ended()["phase"] for job in (one, two)] == ["Succeeded", "Succeeded"]
    assert one.stage().losses() == two.stage().losses()
    assert one.stage().path != two.stage().path
    digests = {job.status()["published"][0]["digest"] for job in (one, two)}
    assert len(digests) == 1, "the same spec, the same model"
