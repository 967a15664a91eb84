"""The page with the metrics of all FineTuneJobs and EvalGates. An object is read when it changed, not at each
scrape."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from tunegate_operator.engine.clock import Clock
from tunegate_operator.engine.cluster import Object
from tunegate_operator.metrics.resources import (
    GateFamilies,
    JobFamilies,
    phase_and_reason,
    read_gate_status,
    read_job_status,
)

logger = logging.getLogger(__name__)

FINISHED_HOURS = 24
"""How long a FineTuneJob has metrics of its own after its end, in hours. This limits the number of series.
Afterwards, only ``tunegate_finetunejobs`` counts the job."""

Count = tuple[str, str, str]
"""Namespace, phase and reason."""


class ResourcePage:
    """The metrics of all FineTuneJobs and EvalGates as text. Thread-safe.

    ``read`` returns the object with a uid, or None if it was deleted. Only the leader exports the metrics, so
    that a sum over all replicas counts each resource once. ``is_leader`` returns whether this replica is the
    leader.
    """

    def __init__(
        self, read: Callable[[str], Object | None], clock: Clock, is_leader: Callable[[], bool]
    ) -> None:
        self._read = read
        self._clock = clock
        self._is_leader = is_leader
        self._changed: dict[str, None] = {}  # the uids of changed objects, in order
        self._known: set[str] = set()  # the uids of objects that were read, and not found deleted
        self._changed_lock = threading.Lock()  # guards the two fields above
        self._lock = threading.Lock()  # guards the fields below
        self._counts: Counter[Count] = Counter()
        self._counted: dict[str, Count] = {}
        self._shown: dict[str, _Shown] = {}

    def changed(self, kind: str, uid: str, is_removed: bool = False) -> None:
        """Note that the object with this uid was added, changed or removed. It is read later, because this is
        called for every change. A removed object that was never read is forgotten, because replicas that do
        not lead read none."""
        if kind in ("FineTuneJob", "EvalGate"):
            with self._changed_lock:
                if is_removed and uid not in self._known:
                    self._changed.pop(uid, None)
                else:
                    self._changed[uid] = None

    def refresh(self, most: int | None = None) -> bool:
        """Read the changed objects, ``most`` of them if given. Return whether none is left. An object that
        cannot be read has no metrics until it changes again."""
        with self._lock:
            with self._changed_lock:
                uids = list(islice(self._changed, most))
                for uid in uids:  # before they are read, because they may change again meanwhile
                    del self._changed[uid]
                self._known.update(uids)
                is_last = not self._changed
            for uid in uids:
                try:
                    self._refresh(uid)
                except Exception:
                    logger.exception("the metrics of the object with uid %s cannot be read", uid)
        return is_last

    def text(self) -> bytes:
        """Return the metrics of one scrape, in the text format of Prometheus."""
        jobs, gates = JobFamilies(), GateFamilies()
        shown: list[_Shown] = []
        if self._is_leader():
            self.refresh()
            with self._lock:
                self._forget_finished()
                for labels, count in sorted(self._counts.items()):
                    jobs.count.add_metric(labels, count)
                shown = sorted(self._shown.values(), key=lambda each: each.order)
        page = [
            text
            for family, block in _blocks([*jobs.all(), *gates.all()]).items()
            for text in (*block, *(each.samples.get(family, "") for each in shown))
        ]
        return "".join(page).encode()

    def _refresh(self, uid: str) -> None:
        counted = self._counted.pop(uid, None)
        if counted:
            self._counts[counted] -= 1
            if not self._counts[counted]:
                del self._counts[counted]
        self._shown.pop(uid, None)
        obj = self._read(uid)
        if obj is None:
            with self._changed_lock:
                if uid not in self._changed:  # it did not come back meanwhile
                    self._known.discard(uid)
            return
        ended = None
        families: JobFamilies | GateFamilies
        if obj["kind"] == "FineTuneJob":
            families, status = JobFamilies(), read_job_status(obj)
            count = (obj["metadata"]["namespace"], *(phase_and_reason(status) if status else ("Unknown", "")))
            self._counted[uid] = count
            self._counts[count] += 1
            if status is None or self._is_finished(status.completion_time):
                return
            ended = status.completion_time
            families.add(obj, status)
        else:
            families, gate_status = GateFamilies(), read_gate_status(obj)
            if gate_status is None:
                return
            families.add(obj, gate_status)
        samples = {name: "".join(lines) for name, (_, *lines) in _blocks(families.all()).items() if lines}
        order = obj["metadata"].get("creationTimestamp", ""), obj["metadata"]["name"]
        self._shown[uid] = _Shown(order, ended, samples)

    def _is_finished(self, ended: datetime | None) -> bool:
        return ended is not None and ended <= self._clock.now() - timedelta(hours=FINISHED_HOURS)

    def _forget_finished(self) -> None:
        for uid in [uid for uid, each in self._shown.items() if self._is_finished(each.ended)]:
            del self._shown[uid]


@dataclass(frozen=True, slots=True)
class _Shown:
    """An object that has metrics of its own."""

    order: tuple[str, str]
    """Creation time and name, by which objects are sorted."""
    ended: datetime | None
    samples: dict[str, str]
    """The samples as text, by the name of their metric."""


def _blocks(families: Iterable[Metric]) -> dict[str, list[str]]:
    """Return the text of each metric by its name: its two header lines as one text, then its samples."""
    blocks: dict[str, list[str]] = {}
    name = ""
    for line in generate_latest(_Families(families)).decode().split("\n")[:-1]:
        if line.startswith("# HELP "):
            name = line.split(" ", 3)[2]
            blocks[name] = [f"{line}\n"]
        elif line.startswith("# TYPE "):
            blocks[name][0] += f"{line}\n"
        else:
            blocks[name].append(f"{line}\n")
    return blocks


class _Families(Collector):
    """Makes a list of metrics readable for ``generate_latest``, which calls only this method."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families
