"""Two runs do not affect each other: a job that is deleted and applied again, and two jobs on one volume."""

import pytest

from support.node import Node
from support.tiny_job import TinyJob

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def test_deleted_and_reapplied_job_is_a_new_run(node: Node, namespace: str) -> None:
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


def test_two_concurrent_jobs_share_a_volume(node: Node, namespace: str) -> None:
    node.install()
    one, two = TinyJob(node, namespace, "one"), TinyJob(node, namespace, "two")
    one.apply()
    two.apply()
    assert [job.ended()["phase"] for job in (one, two)] == ["Succeeded", "Succeeded"]
    assert one.stage().losses() == two.stage().losses()
    assert one.stage().path != two.stage().path
    digests = {job.status()["published"][0]["digest"] for job in (one, two)}
    assert len(digests) == 1, "the same spec, the same model"
