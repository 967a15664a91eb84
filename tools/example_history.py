"""A day of example metrics for the pictures of the dashboards, as Prometheus would have stored them.

The operator's own code computes the metrics of the jobs. The API server refuses writes for some minutes.
"""

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tools.example_jobs import END, START, objects_at  # noqa: E402

from support.clock import FakeClock  # type: ignore[import-not-found] # noqa: E402 - mypy knows no tests
from tunegate_operator.metrics.page import ResourcePage  # noqa: E402
from tunegate_operator.metrics.process import OperatorMetrics  # noqa: E402

KINDS = ("FineTuneJob", "EvalGate")
SCRAPE_SECONDS = 120
REFUSED = (19.4, 19.7)
"""The hours between which the API server refuses all writes except those of the Lease."""
HANDOVER = 21.6
"""The hour at which the second replica becomes the leader."""


class Replica:
    """An example replica of the operator, and how its own metrics change with time."""

    def __init__(self, pod: str, address: str, leads: Callable[[float], bool]) -> None:
        self.labels = {"job": "tunegate", "pod": pod, "instance": address}
        self.hour = 0.0
        self._leads = leads
        self._random = random.Random(pod)
        self._queue = 0
        self._cpu = 0.0
        self.metrics = OperatorMetrics(KINDS, lambda: self._queue, self.is_leader)

    def is_leader(self) -> bool:
        return self._leads(self.hour)

    def advance(self, hour: float) -> None:
        """Do what an operator does between two scrapes."""
        self.hour = hour
        self._cpu += SCRAPE_SECONDS * self._random.gauss(0.021 if self.is_leader() else 0.006, 0.001)
        for _ in range(24):
            self.metrics.requested("GET" if self._random.random() < 0.5 else "PUT", "leases", 200)
        self._queue = 0
        if self.is_leader():
            self._work(is_refused=REFUSED[0] <= hour < REFUSED[1])

    def _work(self, *, is_refused: bool) -> None:
        chance = self._random
        self._queue = chance.randrange(4, 9) if is_refused else int(chance.random() > 0.9)
        for _ in range(chance.randrange(25, 45)):
            kind = "FineTuneJob" if chance.random() < 0.8 else "EvalGate"
            seconds = chance.lognormvariate(-3.6, 0.6)
            is_write = chance.random() < 0.4
            self.metrics.reconciled(kind, seconds * (3 if is_refused else 1), not (is_write and is_refused))
            self.metrics.requested("GET", "configmaps", 200)
            if is_write:
                code = 500 if is_refused else 409 if chance.random() < 0.05 else 200
                self.metrics.requested("PATCH", "finetunejobs", code)
                if code != 200:
                    self.metrics.failed(kind, "Unavailable" if code == 500 else "Conflict")
            if is_write and not is_refused:
                self.metrics.requested("POST", "events", 201)

    def process(self) -> dict[str, float]:
        """Return the metrics of the example process, instead of those of this one."""
        memory = (92 if self.is_leader() else 71) * 2**20 + self._random.gauss(0, 2**19)
        return {
            "process_resident_memory_bytes": round(memory),
            "process_cpu_seconds_total": round(self._cpu, 3),
        }


def write_history(path: Path) -> None:
    """Write what Prometheus would have stored of the example operator, in the OpenMetrics text format."""
    replicas = (
        Replica("tunegate-7d9c6b-x2x8k", "10.42.0.17:8080", lambda hour: hour < HANDOVER),
        Replica("tunegate-7d9c6b-m4fqz", "10.42.1.9:8080", lambda hour: hour >= HANDOVER),
    )
    clock = FakeClock(START)
    with path.open("w") as file:
        while clock.now() <= END:
            hour = (clock.now() - START).total_seconds() / 3600
            for replica in replicas:
                replica.advance(hour)
                file.writelines(_lines(replica, clock))
            clock.advance(SCRAPE_SECONDS)
        file.write("# EOF\n")


def _lines(replica: Replica, clock: FakeClock) -> Iterator[str]:
    timestamp = clock.now().timestamp()
    objects = {
        f"{kind}-{n}": {"kind": kind, **obj}
        for kind in KINDS
        for n, obj in enumerate(objects_at(kind, replica.hour))
    }
    resources = ResourcePage(objects.get, clock, replica.is_leader)
    for uid, obj in objects.items():
        resources.changed(obj["kind"], uid)
    for name, value in replica.process().items():
        yield _line(name, replica.labels, value, timestamp)
    page = replica.metrics.page() + resources.text()
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            if not sample.name.startswith("process_"):
                yield _line(sample.name, sample.labels | replica.labels, sample.value, timestamp)


def _line(name: str, labels: dict[str, str], value: float, timestamp: float) -> str:
    text = ",".join(f'{key}="{label}"' for key, label in labels.items())
    return f"{name}{{{text}}} {value} {timestamp:.0f}\n"
