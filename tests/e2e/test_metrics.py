"""Prometheus scrapes the installed operator while real jobs train, succeed and are stopped."""

from pathlib import Path

import pytest

from support.dashboards import ALERTS, NAMES, Ranges, alert_queries, dashboard_queries, without_data
from support.helm import NAMESPACE
from support.node import Node
from support.prometheus import needs_prometheus, prometheus
from support.tiny_job import start_from_a_passing_model
from support.waiting import eventually

pytestmark = [pytest.mark.e2e, needs_prometheus, pytest.mark.timeout(1800)]

RANGES = Ranges(range="30m", rate_interval="30s")
WITHOUT_DATA: set[str] = set()
"""Queries whose metrics need a GPU or a safety set."""


def test_every_query_and_alert_has_data_while_jobs_run(node: Node, namespace: str, tmp_path: Path) -> None:
    node.install()
    queries = alert_queries()
    for name in NAMES:
        queries |= {f"{name}: {title}": query for title, query in dashboard_queries(name, RANGES).items()}
    with (
        node.forwarded("deployment/tunegate", 8080, NAMESPACE) as port,
        prometheus(tmp_path, [port], ALERTS) as stored,
    ):
        (worse,) = start_from_a_passing_model(node, namespace, "worse")
        assert set(without_data(stored, queries, seconds=240)) == WITHOUT_DATA
        worse.wait_for("Stopped")
        job = f'namespace="{namespace}",finetunejob="worse"'

        def stopped() -> bool:
            assert stored.query(f'tunegate_finetunejob_phase{{{job},phase="Stopped"}}')
            return stored.alerts()["TunegateTrainingStopped"] == "firing"

        eventually(stopped, seconds=60, what="the alert fires")
        (saved,) = stored.query(f"tunegate_finetunejob_steps_saved{{{job}}}")
        assert int(saved["value"][1]) == worse.status()["stop"]["stepsSaved"]
