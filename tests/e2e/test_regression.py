"""A run that gets worse is stopped, its GPU freed, and a person decides."""

import json

import pytest

from support.node import Node
from support.tiny_job import TinyJob

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
RUINOUS = {
    "maxSteps": 60,
    "learningRate": "1",
    "warmupFraction": "0.9",
    "batchSize": 4,
    "maxLength": 128,
    "seed": 1,
}
"""A warm-up through rates at which the tiny model learns, to rates at which it forgets."""


def say(job: TinyJob, decision: str, reason: str) -> None:
    said = json.dumps({"stop": job.status()["stop"]["id"], "reason": reason})
    job.node.kubectl("annotate", "ftj", job.name, "-n", job.namespace, f"tunegate.dev/{decision}={said}")


def test_a_regression_stops_it_and_a_person_decides(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    job.apply(RUINOUS, evaluateEvery={"fraction": "0.1"})
    status = job.wait_for("Stopped")
    assert status["stop"]["reason"] == "GoldenRegression", status["stop"]
    assert status["stop"]["regressedCases"]
    assert job.pods("train") == [], "the GPU is free"
    stopped_at = max(job.stage().checkpoints())
    assert stopped_at < RUINOUS["maxSteps"]

    say(job, "continue", "to see how far it falls")
    job.wait_for("Training")
