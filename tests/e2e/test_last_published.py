"""If two jobs publish to one URI, the second job's model must not be worse than the first job's model."""

from typing import Any

import pytest

from support.node import Node
from support.overlapping import good_and_worse, with_grown_set, with_other_failures
from support.tiny_job import TinyJob

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
NODE_CHANGES: dict[str, Any] = {
    "resources": {"accelerator": "CPU", "cpu": "1"},
    "publish": [{"uri": "pvc://models/shared"}],
}


def message_of(status: dict[str, Any]) -> str:
    assert status["phase"] == "Failed", status
    assert status["failure"]["reason"] == "GateFailed", status["failure"]
    return str(status["failure"]["message"])


def test_worse_of_two_concurrent_jobs_is_not_published(node: Node, namespace: str) -> None:
    node.install()
    good, worse = TinyJob(node, namespace, "good"), TinyJob(node, namespace, "worse")
    first, second = good_and_worse("pvc://models/tiny", **NODE_CHANGES)
    node.apply(namespace, *first, *second)
    worse.wait_for("Training")
    worse.suspend(True)  # otherwise it may end first
    assert good.ended()["phase"] == "Succeeded", good.status()["message"]
    worse.suspend(False)
    uid = good.get()["metadata"]["uid"][:5]
    ended = worse.ended()
    assert ended["checkpoints"][-1]["gates"][0]["skipped"] == ["LastPublished"], "they overlapped"
    assert f"golden 15/20, LastPublished (good-{uid}) 20/20: -25.0 points" in message_of(ended)
    target = good.models / "shared"
    assert {path.name for path in target.iterdir()} == {".history", f"good-{uid}", "latest"}


def test_recreated_gate_still_finds_its_baseline(node: Node, namespace: str) -> None:
    node.install()
    good, worse = TinyJob(node, namespace, "good"), TinyJob(node, namespace, "worse")
    first, second = good_and_worse("pvc://models/tiny", **NODE_CHANGES)
    node.apply(namespace, *first)
    assert good.ended()["phase"] == "Succeeded", good.status()["message"]
    node.kubectl("delete", "ftj", "good", "-n", namespace, "--timeout=60s")
    kept = node.get("evalgate", "golden", namespace)["status"]["recordsConfigMap"]
    node.kubectl("delete", "evalgate", "golden", "-n", namespace, "--timeout=60s")
    node.kubectl("wait", "configmap", kept, "-n", namespace, "--for=delete", "--timeout=60s")
    node.apply(namespace, *first[:-1], *second)
    assert "LastPublished (good-" in message_of(worse.ended())


def test_grown_golden_set_keeps_the_published_version_as_baseline(node: Node, namespace: str) -> None:
    node.install()
    good, worse = TinyJob(node, namespace, "good"), TinyJob(node, namespace, "worse")
    first, second = good_and_worse("pvc://models/tiny", **NODE_CHANGES)
    node.apply(namespace, *first)
    assert good.ended()["phase"] == "Succeeded", good.status()["message"]
    uid = good.get()["metadata"]["uid"][:5]
    node.apply(namespace, *with_grown_set(first, second))
    expected = f"golden-v2: golden 18/25, LastPublished (good-{uid}, judged again) 25/25: -28.0 points"
    assert expected in message_of(worse.ended())


def test_ten_fixes_do_not_hide_ten_new_failures(node: Node, namespace: str) -> None:
    node.install()
    good, other = TinyJob(node, namespace, "good"), TinyJob(node, namespace, "worse")
    first, second = with_other_failures(*good_and_worse("pvc://models/tiny", **NODE_CHANGES))
    node.apply(namespace, *first)
    assert good.ended()["phase"] == "Succeeded", good.status()["message"]
    node.apply(namespace, *second)
    failure = other.ended()["failure"]
    assert failure["reason"] == "NoPassingCheckpoint", failure
    expected = "10/20: +0.0 points, limit -5.0; new failures 10, at most 3: case-0, case-2"
    assert expected in failure["message"]
