"""Prometheus scrapes the installed operator while real jobs train, succeed, fail and are stopped."""

from copy import deepcopy
from pathlib import Path

import pytest

from support.builders import make_config_map
from support.dashboards import ALERTS, NAMES, Ranges, alert_queries, dashboard_queries, without_data
from support.helm import NAMESPACE
from support.node import Node
from support.overlapping import Objects, good_and_worse
from support.prometheus import Prometheus, needs_prometheus, prometheus
from support.tiny_job import LONG, TinyJob
from support.waiting import eventually

pytestmark = [pytest.mark.e2e, needs_prometheus, pytest.mark.timeout(1800)]

RANGES = Ranges(range="30m", rate_interval="30s")
NOT_WRITTEN = {f"fine-tuning: Results by gate, query {query}" for query in "HI"}
"""The queries about safety sets. No gate of these jobs has one."""


def stopping(good: Objects) -> Objects:
    """Return a job that starts from the model of the job ``good`` and is stopped, because its training rows
    contradict the golden cases. Its gate compares it with the base model."""
    rows, *_, gate, job = deepcopy(good)
    gate["metadata"]["name"] = "strict"
    gate["spec"]["compareWith"] = [{"type": "BaseModel"}]
    refusals = rows["data"]["train.jsonl"].replace('"yes"', '"no thanks"')
    job["metadata"]["name"] = "stopping"
    job["spec"] |= {
        "model": {"startFrom": "good"},
        "gates": [{"name": "strict"}],
        "evaluation": {"every": "10%"},
        "data": {**job["spec"]["data"], "sources": [{"name": "train", "configMap": "refusals"}]},
    }
    job["spec"]["stages"][0]["training"] = LONG
    return [make_config_map("refusals", train__jsonl=refusals), gate, job]


def approving(good: Objects) -> Objects:
    """Return a job like ``good`` without a target, whose gate requires an approval."""
    *_, gate, job = deepcopy(good)
    gate["metadata"]["name"] = "approved"
    gate["spec"]["approval"] = "WhenPassed"
    job["metadata"]["name"] = "approving"
    job["spec"]["gates"] = [{"name": "approved"}]
    del job["spec"]["publish"]
    return [gate, job]


def test_every_query_and_alert_has_data_while_jobs_run(node: Node, namespace: str, tmp_path: Path) -> None:
    node.install()
    good, worse, stopped = (TinyJob(node, namespace, name) for name in ("good", "worse", "stopping"))
    first, second = good_and_worse(
        "pvc://models/tiny",
        resources={"accelerator": "CPU", "cpu": "1"},
        publish=[{"uri": "pvc://models/shared"}],
    )
    queries = alert_queries()
    for name in NAMES:
        queries |= {f"{name}: {title}": query for title, query in dashboard_queries(name, RANGES).items()}
    with (
        node.forwarded("deployment/tunegate", 8080, NAMESPACE) as port,
        prometheus(tmp_path, [port], ALERTS) as stored,
    ):
        node.apply(namespace, *first, *second)
        worse.wait_for("Training")
        worse.suspend(True)  # its final gate must find the model of the job "good"
        assert good.ended()["phase"] == "Succeeded", good.status()["message"]
        node.apply(namespace, *approving(first))
        TinyJob(node, namespace, "approving").wait_for("AwaitingApproval")
        worse.suspend(False)
        node.apply(namespace, *stopping(first))
        assert set(without_data(stored, queries, seconds=240)) == NOT_WRITTEN
        assert worse.ended()["failure"]["reason"] == "GateFailed", worse.status()["message"]
        stop = stopped.wait_for("Stopped")["stop"]
        eventually(lambda: firing(stored), seconds=60, what="the alerts fire")
        (saved,) = stored.query(
            f'tunegate_finetunejob_steps_saved{{namespace="{namespace}",finetunejob="stopping"}}'
        )
        assert int(saved["value"][1]) == stop["stepsSaved"]


def firing(stored: Prometheus) -> bool:
    states = stored.alerts()
    assert states["TunegateTrainingStopped"] == states["TunegateGateNotPassed"] == "firing", states
    return True
