"""Metrics of the operator's own process: reconciliations, the work queue, API requests, leadership, memory
and CPU."""

from collections.abc import Callable, Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from tunegate_api.v1alpha2.reasons import Reason

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class OperatorMetrics:
    """The registry of one operator process. Thread-safe."""

    def __init__(
        self, kinds: Iterable[str], queue_depth: Callable[[], int], is_leader: Callable[[], bool]
    ) -> None:
        # Without it, each counter has a second series with the time of its creation.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotations
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._reconciles = Histogram(
            "tunegate_reconcile_duration_seconds",
            "Time of a reconciliation in seconds, with its requests to the API server.",
            ("kind", "result"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._requests = Counter(
            "tunegate_api_requests",
            "Requests to the API server by method, resource and HTTP status, which is 0 without an answer.",
            ("method", "resource", "code"),
            registry=self.registry,
        )
        self._failures = Counter(
            "tunegate_reconcile_failures",
            "Reconciliations that failed, by kind and by the reason of the failure.",
            ("kind", "reason"),
            registry=self.registry,
        )
        for kind in kinds:
            self._failures.labels(kind, Reason.INTERNAL_ERROR)
            for result in ("success", "error"):
                self._reconciles.labels(kind, result)
        depth = Gauge(
            "tunegate_workqueue_depth", "Number of resources that wait for a worker.", registry=self.registry
        )
        depth.set_function(queue_depth)
        leader = Gauge(
            "tunegate_leader",
            "1 if this replica holds the Lease and decides, otherwise 0.",
            registry=self.registry,
        )
        leader.set_function(lambda: float(is_leader()))

    def reconciled(self, kind: str, seconds: float, succeeded: bool) -> None:
        """Record one reconciliation."""
        self._reconciles.labels(kind, "success" if succeeded else "error").observe(seconds)

    def failed(self, kind: str, reason: str) -> None:
        """Record that a reconciliation failed."""
        self._failures.labels(kind, reason).inc()

    def requested(self, method: str, resource: str, code: int) -> None:
        """Record one request to the API server; ``code`` is 0 if there was no answer."""
        self._requests.labels(method, resource, str(code)).inc()

    def page(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self.registry)
