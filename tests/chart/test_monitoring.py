"""The alerts and dashboards, and the objects with which the chart installs them."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.dashboards import NAMES, dashboard
from support.helm import CHART, Helm

pytestmark = pytest.mark.cluster

ALERTS = CHART / "monitoring" / "alerts.yaml"
UNIT_TESTS = Path(__file__).with_name("alerts_test.yaml")
PAGE = (CHART.parents[1] / "docs" / "metrics.md").read_text()
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus"
)


def rules() -> dict[str, dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


@needs_promtool
def test_alert_rules_pass_their_unit_tests() -> None:
    done = subprocess.run(
        ["promtool", "test", "rules", str(UNIT_TESTS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_unit_tests_for_firing_and_staying_silent() -> None:
    tests = yaml.safe_load(UNIT_TESTS.read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    for outcome in (True, False):
        tested = [case["alertname"] for case in cases if bool(case["exp_alerts"]) is outcome]
        assert sorted(tested) == sorted(rules()), outcome


def test_each_alert_leads_to_its_runbook_and_reads_documented_metrics() -> None:
    documented = set(re.findall(r"^\| `(tunegate_\w+)` \|", PAGE, re.MULTILINE))
    for name, rule in rules().items():
        assert rule["annotations"]["runbook"] == f"docs/metrics.md#{name.lower()}"
        assert f"\n### {name}\n" in PAGE, name
        metrics = set(re.findall(r"tunegate_\w+", rule["expr"]))
        assert {metric.removesuffix("_count") for metric in metrics} <= documented, name


def test_chart_installs_no_monitoring_objects_by_default(helm: Helm) -> None:
    kinds = {kind for kind, _ in helm.render()}
    assert not kinds & {"ServiceMonitor", "PrometheusRule", "ConfigMap"}


def test_service_monitor_scrapes_the_pods_of_the_operator(helm: Helm) -> None:
    objects = helm.render(
        "metrics.serviceMonitor.create=true", "metrics.serviceMonitor.labels.release=prometheus"
    )
    monitor, service = objects["ServiceMonitor", "tunegate"], objects["Service", "tunegate-metrics"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    selected = monitor["spec"]["selector"]["matchLabels"].items()
    assert selected <= service["metadata"]["labels"].items()
    assert not selected <= objects["Service", "tunegate-reports"]["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    (port,) = service["spec"]["ports"]
    assert (endpoint["port"], endpoint["path"], endpoint["honorLabels"]) == (port["name"], "/metrics", True)
    pod = objects["Deployment", "tunegate"]["spec"]["template"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert port["targetPort"] in [p["name"] for p in pod["spec"]["containers"][0]["ports"]]


def test_prometheus_rule_has_the_alerts_of_the_alerts_file(helm: Helm) -> None:
    objects = helm.render("metrics.prometheusRule.create=true")
    (group,) = objects["PrometheusRule", "tunegate"]["spec"]["groups"]
    assert {rule["alert"]: rule for rule in group["rules"]} == rules()


def test_dashboards_are_config_maps_that_the_sidecar_of_grafana_selects(helm: Helm) -> None:
    objects = helm.render(
        "metrics.dashboards.create=true",
        "metrics.dashboards.labels.team=a",
        "metrics.dashboards.annotations.grafana_folder=Tunegate",
    )
    for name in NAMES:
        made = objects["ConfigMap", f"tunegate-dashboard-{name}"]
        assert {"grafana_dashboard": "1", "team": "a"}.items() <= made["metadata"]["labels"].items()
        assert made["metadata"]["annotations"] == {"grafana_folder": "Tunegate"}
        ((file, content),) = made["data"].items()
        assert file == f"tunegate-{name}.json"
        assert json.loads(content) == dashboard(name)
