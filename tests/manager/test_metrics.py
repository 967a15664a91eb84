"""What Prometheus reads from the operator's process, beside a real API server."""

from typing import Any

import pytest
import yaml

from support.helm import CHART
from support.operator_command import operator
from support.prometheus import needs_prometheus, prometheus
from support.samples import Samples, scrape
from support.waiting import eventually

pytestmark = pytest.mark.cluster


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


def test_replicas_export_process_metrics_and_only_the_leader_job_metrics(server, team, kubelet, tmp_path):
    with (
        operator(server, tmp_path / "a.log", POD_NAME="a") as a,
        kubelet.running(),
    ):
        team.apply_all()
        team.wait_for("Succeeded")
        with operator(server, tmp_path / "b.log", POD_NAME="b") as b:
            job = {"namespace": team.namespace, "finetunejob": "orders"}
            ended = {"phase": "Succeeded", "reason": "Succeeded"}

            def succeeded() -> Samples | None:
                samples = scrape(a.health_port)
                return samples if value(samples, "tunegate_finetunejob_phase", **job, **ended) else None

            leading = eventually(succeeded, what="the metrics show the end of the job")
            standby = scrape(b.health_port)
    assert value(leading, "tunegate_leader") == 1
    rate = {"evalgate": "golden", "subject": "final"}
    assert value(leading, "tunegate_finetunejob_golden_pass_ratio", **job, **rate) == 0.94
    created = value(leading, "tunegate_api_requests_total", method="POST", resource="jobs", code="201")
    assert created is not None
    assert created >= 4
    reconciled = {"kind": "FineTuneJob", "result": "success"}
    assert (value(leading, "tunegate_reconcile_duration_seconds_count", **reconciled) or 0) > 10
    assert value(standby, "tunegate_leader") == 0
    assert [
        name for name, _ in standby if name.startswith(("tunegate_finetunejob", "tunegate_evalgate"))
    ] == []
    assert value(standby, "tunegate_reconcile_duration_seconds_count", **reconciled) == 0


@needs_prometheus
def test_prometheus_stores_job_metrics_and_evaluates_alerts(server, team, kubelet, tmp_path):
    alerts = CHART / "monitoring" / "alerts.yaml"
    log = tmp_path / "operator.log"
    with (
        operator(server, log) as command,
        prometheus(tmp_path, [command.health_port], alerts) as stored,
        kubelet.running(),
    ):
        team.apply_all()
        job = f'namespace="{team.namespace}", finetunejob="orders"'

        def series_of(metric: str, **labels: str) -> list[Any]:
            more = "".join(f', {name}="{text}"' for name, text in labels.items())
            return stored.query(f"tunegate_finetunejob_{metric}{{{job}{more}}}")

        eventually(lambda: series_of("phase", phase="Succeeded"), seconds=60, what="the end of the job")
        (rate,) = series_of("golden_pass_ratio", subject="final", evalgate="golden")
        assert rate["value"][1] == "0.94"
        assert stored.query("max(tunegate_leader)")[0]["value"][1] == "1"
        assert stored.query("tunegate_api_requests_total > 0")
        expected = {rule["alert"] for rule in yaml.safe_load(alerts.read_text())["groups"][0]["rules"]}
        states = stored.alerts()
        assert states.keys() == expected
        assert "firing" not in states.values(), states
