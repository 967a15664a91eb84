"""A job whose model gets worse is stopped and its GPU is freed. Then a person decides about the job."""

from functools import partial

import pytest

from support.helm import ROOT
from support.node import Node
from support.tiny_job import LONG, TinyJob
from support.waiting import eventually

pytestmark = pytest.mark.timeout(1800)
EXAMPLE = ROOT / "examples" / "regression"


def start_from_a_passing_model(node: Node, namespace: str, *names: str) -> list[TinyJob]:
    """Apply jobs that start from a model which passes all golden cases. Their training rows contradict the
    cases, so training reduces both the loss and the pass rate."""
    good = TinyJob(node, namespace, "good")
    good.apply()
    assert good.ended()["phase"] == "Succeeded"
    rows = next(obj for obj in good.manifests() if obj["metadata"]["name"] == "rows")
    refusals = {key: text.replace('"yes"', '"no thanks"') for key, text in rows["data"].items()}
    node.apply(namespace, {**rows, "metadata": {"name": "refusals"}, "data": refusals})
    data = {**good.manifests()[-1]["spec"]["data"], "sources": [{"name": "train", "configMap": "refusals"}]}
    jobs = [TinyJob(node, namespace, name) for name in names]
    for job in jobs:
        job.apply(LONG, model={"startFrom": "good"}, data=data, evaluation={"every": "10%"})
    return jobs


def has_left_stopped(job: TinyJob) -> bool:
    return job.status()["phase"] != "Stopped"


@pytest.mark.e2e
def test_regression_stops_a_job_until_a_person_decides(node: Node, namespace: str) -> None:
    node.install()
    one, other = start_from_a_passing_model(node, namespace, "one", "other")
    for job in (one, other):
        stop = job.wait_for("Stopped")["stop"]
        assert stop["reason"] == "GoldenRegression"
        assert stop["regressedCount"] == 20
        assert job.pods("train") == [], "the GPU is free"
        assert max(job.stage().checkpoints()) < LONG["maxSteps"]

    node.process(node.leader()).kill()  # the next leader has to resume both stops from status

    assert "kubectl tunegate continue one" in node.plugin("status", "one", "-w", "-n", namespace, code=3)
    node.plugin("continue", "one", "-n", namespace, "--reason", "to see how far it falls")
    node.tunegate("discard", "other", "--namespace", namespace, "--reason", "these answers are not ours")
    for job in (one, other):
        eventually(partial(has_left_stopped, job), seconds=120, what="the decision takes effect", pause=0.5)
    assert other.wait_for("Failed")["failure"]["reason"] == "Discarded"
    status = one.ended()
    assert one.stage().writers() == 2, "a second attempt trained"
    assert max(one.stage().losses()) == LONG["maxSteps"]
    assert status["decisions"][0]["reason"] == "to see how far it falls"
    assert (status["phase"], status["failure"]["reason"]) == ("Failed", "NoPassingCheckpoint")
    assert not (one.models / "one").exists(), "a failing model is not published"


@pytest.mark.e2e_full
def test_job_of_the_regression_example_is_stopped(node: Node, namespace: str) -> None:
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
