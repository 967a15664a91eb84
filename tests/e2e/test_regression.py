"""A run that gets worse is stopped, its GPU freed, and a person decides."""

import json

import pytest

from support.helm import ROOT
from support.node import Node
from support.tiny_job import TinyJob

pytestmark = pytest.mark.timeout(1800)
EXAMPLE = ROOT / "examples" / "regression"
RUINOUS = {
    "maxSteps": 200,
    "learningRate": "0.2",
    "warmupFraction": "0.9",
    "batchSize": 4,
    "maxLength": 128,
    "seed": 1,
}
"""A warm-up through rates at which the tiny model learns, to rates at which it forgets: after 20 steps it
passes all cases, after 40 none, in float32 and in bfloat16."""


@pytest.mark.e2e
def test_a_regression_stops_it_and_a_person_decides(node: Node, namespace: str) -> None:
    node.install()
    one, other = TinyJob(node, namespace, "one"), TinyJob(node, namespace, "other")
    for job in (one, other):
        job.apply(RUINOUS, evaluateEvery={"fraction": "0.1"})
    for job in (one, other):
        stop = job.wait_for("Stopped")["stop"]
        assert stop["reason"] == "GoldenRegression"
        assert stop["regressedCases"]
        assert job.pods("train") == [], "the GPU is free"
        assert max(job.stage().checkpoints()) < RUINOUS["maxSteps"]

    node.process(node.leader()).kill()  # whoever comes next knows what waits for whom

    said = json.dumps({"stop": one.status()["stop"]["id"], "reason": "to see how far it falls"})
    node.kubectl("annotate", "ftj", "one", "-n", namespace, f"tunegate.dev/continue={said}")
    node.tunegate("discard", "other", "--namespace", namespace, "--reason", "the rate is too high")
    assert other.wait_for("Failed")["failure"]["reason"] == "Discarded"
    status = one.ended()
    assert one.stage().writers() == 2, "a second attempt trained"
    assert max(one.stage().losses()) == RUINOUS["maxSteps"]
    # Whether it falls for good or learns again, the rounding of the machine decides.
    passing = [c["step"] for c in status["checkpoints"] if c["gates"][0]["verdict"] == "Passed"]
    assert status["phase"] == ("Succeeded" if passing else "Failed")
    assert status["decisions"][0]["reason"] == "to see how far it falls"
    assert (one.models / "one").exists() == bool(passing), "what did not pass is not published"
    if passing:
        assert status["bestCheckpoint"]["step"] in passing


@pytest.mark.e2e_full
def test_the_regression_example_stops(node: Node, namespace: str) -> None:
    node.install()
    for claim in ("tuning", "models"):
        node.volume(namespace, claim)
    node.kubectl("apply", "-n", namespace, "-f", EXAMPLE)
    job = node.ended_job("order-extractor-regressing", namespace, seconds=1500)
    status = job["status"]
    assert status["phase"] == "Stopped", status["message"]
    assert status["stop"]["reason"] == "GoldenRegression"
    assert status["stop"]["regressedCases"]
    assert status["stop"]["stepsSaved"] > 0
