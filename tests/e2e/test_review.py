"""On a real node, a job with ``data.quality`` awaits its review. `kubectl tunegate review` reads the sample
from the volume."""

import json
from pathlib import Path

import pytest

from support.node import Node
from support.tiny_job import TinyJob

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def test_review_that_arrives_by_kubectl_lets_a_waiting_job_continue(
    node: Node, namespace: str, tmp_path: Path
) -> None:
    node.install()
    job = TinyJob(node, namespace)
    manifests = job.manifests()
    manifests[-1]["spec"]["data"]["quality"] = {"sample": "10%", "minScore": "90%"}
    node.apply(namespace, *manifests)
    review = job.wait_for("AwaitingReview")["data"]["review"]
    (path,) = job.storage.glob("tunegate/jobs/*/data/review/sample.jsonl")
    ids = [json.loads(line)["id"] for line in path.read_text().splitlines()]
    assert (len(ids), review["rows"]) == (20, 20)
    assert job.child_jobs() == ["data 1"]

    (tmp_path / "half.jsonl").write_text(
        "".join(json.dumps({"id": id, "good": True}) + "\n" for id in ids[:10])
    )
    there = ("--namespace", namespace)
    half = str(tmp_path / "half.jsonl")
    output = node.plugin("review", "orders", "--scores", half, "--reviewer", "ana", *there, code=4)
    assert "10 of 20 rows" in output

    scores = {"sample": review["sample"], "reviewer": "ben", "scores": dict.fromkeys(ids[10:], True)}
    rest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "ben", "labels": {"tunegate.dev/review": "orders"}},
        "data": {"ben.json": json.dumps(scores)},
    }
    node.apply(namespace, rest)
    status = job.wait_for("Queued", "Training", "Gating", "Publishing", "Succeeded")
    assert status["data"]["reviewScore"] == "1.00"
    assert status["data"]["review"]["reviewers"] == ["ana", "ben"]
    node.apply(namespace, *manifests, rest)
    assert job.ended()["phase"] == "Succeeded"
