"""`kubectl tunegate` through the life of a job, with real pods, logs and volumes."""

from pathlib import Path

import pytest

from support.node import Node
from support.tiny_job import LONG, TinyJob
from support.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
READERS = "app.kubernetes.io/name=tunegate-file-reader"


def test_plugin_through_the_life_of_a_job(node: Node, namespace: str, tmp_path: Path) -> None:
    node.install()
    job, there = TinyJob(node, namespace), ("--namespace", namespace)
    job.apply(LONG)
    follower = node.start_plugin("logs", "orders", "--follow", *there)
    job.wait_for_checkpoints(1)
    assert "orders" in node.plugin("status", *there)
    assert "Training" in node.plugin("status", "orders", *there)

    assert "orders will be suspended" in node.plugin("suspend", "orders", *there)
    assert "Suspended" in node.plugin("status", "orders", "--watch", *there, code=4)
    log, _ = follower.communicate(timeout=120)
    assert follower.returncode == 0, log
    assert "==> orders-data-" in log
    assert "==> orders-train-sft-" in log
    assert "orders  Suspended: " in log.splitlines()[-1]

    assert "orders will be resumed" in node.plugin("resume", "orders", *there)
    follower = node.start_plugin("logs", "orders", "-f", *there)
    assert "Succeeded" in node.plugin("status", "orders", "-w", *there)
    log, _ = follower.communicate(timeout=120)
    lines = [line for line in log.splitlines() if not line.startswith("waiting for a pod")]
    names = [line.split()[1] for line in lines if line.startswith("==> orders-")]
    assert [name.split("-")[1] for name in names][-3:] == ["train", "gate", "publish"], log
    own = node.kubectl("logs", names[-1], "-n", namespace).splitlines()
    assert lines[-1 - len(own) : -1] == own, "the log of the last pod is complete"
    events = node.plugin("events", "orders", *there)
    assert "FineTuneJob/orders" in events
    assert f"Pod/{names[-1]}" in events

    node.kubectl("delete", "pods", "-n", namespace, "-l", "tunegate.dev/job=orders")
    assert "no pod with a log" in node.plugin("logs", "orders", *there, code=1)
    page = tmp_path / "report.html"
    node.plugin("report", "orders", "--output", str(page), *there)
    (written,) = job.storage.glob("tunegate/jobs/*/report.html")
    assert page.read_bytes() == written.read_bytes()
    eventually(lambda: not node.items("pods", namespace, READERS), seconds=30, what="the reader is deleted")
