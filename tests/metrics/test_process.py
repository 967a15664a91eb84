"""Metrics of the operator's process, and the page that lists all metrics."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.builders import make_job
from support.world import World
from tunegate_operator.engine.kubernetes import resource_name
from tunegate_operator.metrics.page import ResourcePage
from tunegate_operator.metrics.process import OperatorMetrics

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


@pytest.fixture
def metrics() -> OperatorMetrics:
    return OperatorMetrics(["FineTuneJob", "EvalGate"], lambda: 3, lambda: True)


def count(metrics: OperatorMetrics, kind: str, result: str) -> float | None:
    labels = {"kind": kind, "result": result}
    return metrics.registry.get_sample_value("tunegate_reconcile_duration_seconds_count", labels)


def test_each_reconciliation_is_recorded_with_its_result(metrics):
    world = World()
    world.observe = metrics.reconciled
    world.apply_all()
    world.settle()
    succeeded = count(metrics, "FineTuneJob", "success")
    assert succeeded
    with world.cluster.unavailable():
        world.edit(suspend=True)
        world.settle()
    assert count(metrics, "FineTuneJob", "error") == 1
    assert count(metrics, "FineTuneJob", "success") == succeeded


def failures(metrics: OperatorMetrics) -> dict[tuple[str, str], float]:
    """Return the numbers of failures that are not 0, by kind and reason."""
    (family,) = (each for each in metrics.registry.collect() if each.name == "tunegate_reconcile_failures")
    samples = {(s.labels["kind"], s.labels["reason"]): s.value for s in family.samples}
    return {labels: value for labels, value in samples.items() if value}


def test_failures_are_counted_by_reason(metrics):
    world = World()
    world.count_failure = metrics.failed
    world.apply_all()
    world.settle()
    assert failures(metrics) == {}
    world.cluster.conflict(1)
    world.edit(suspend=True)
    world.settle()
    assert failures(metrics) == {("FineTuneJob", "Conflict"): 1}
    with world.cluster.unavailable():
        world.edit(suspend=False)
        world.settle()
    assert failures(metrics) == {("FineTuneJob", "Conflict"): 1, ("FineTuneJob", "Unreachable"): 1}


def test_internal_errors_have_a_series_before_the_first_one(metrics):
    """Otherwise, the first error would be no increase."""
    for kind in ("FineTuneJob", "EvalGate"):
        labels = {"kind": kind, "reason": "InternalError"}
        assert metrics.registry.get_sample_value("tunegate_reconcile_failures_total", labels) == 0


def test_queue_depth_and_leadership_are_read_at_each_scrape(metrics):
    assert metrics.registry.get_sample_value("tunegate_workqueue_depth") == 3
    assert metrics.registry.get_sample_value("tunegate_leader") == 1


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/api/v1/namespaces/team/configmaps/rows", "configmaps"),
        ("/api/v1/namespaces/team", "namespaces"),
        ("/apis/batch/v1/jobs", "jobs"),
        ("/apis/tunegate.dev/v1alpha2/namespaces/team/finetunejobs/orders/status", "finetunejobs"),
        ("/apis/authentication.k8s.io/v1/tokenreviews", "tokenreviews"),
    ],
)
def test_resource_of_a_request_is_read_from_its_path(path, resource):
    assert resource_name(path) == resource


def test_memory_and_cpu_time_of_the_process_are_exported(metrics):
    assert (metrics.registry.get_sample_value("process_resident_memory_bytes") or 0) > 2**20
    assert (metrics.registry.get_sample_value("process_cpu_seconds_total") or 0) > 0


def test_metrics_docs_page_lists_every_metric_with_its_labels(metrics):
    world = World()
    world.apply_all(make_job().obj())
    world.run()
    metrics.requested("GET", "jobs", 200)
    page = metrics.page() + ResourcePage(world.cache.by_uid, world.clock, lambda: True).text()
    families = list(text_string_to_metric_families(page.decode()))
    exported = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    listed = set(re.findall(r"^\| `((?:tunegate|process)_\w+)` \|", PAGE.read_text(), re.MULTILINE))
    assert listed == exported
