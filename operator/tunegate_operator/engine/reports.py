"""The latest report of each role and stage of a job, and whether status says what it said."""

import threading
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field

from tunegate_operator.engine.cluster import Object

PASSING = ("attempt", "sequence", "time", "progress", "usage")
"""Fields of a report that may be lost: the next one says them anew."""


@dataclass
class _Entry:
    """What one role and stage of a job said."""

    report: Object
    acknowledged: Object | None = None
    """The newest report that status speaks of."""
    waiting: list[Future[None]] = field(default_factory=list)


class ReportStore:
    """Thread-safe. Reports are cumulative, so only the latest of each role and stage counts.

    In memory only: after a restart, pods and the outboxes on the volumes tell again what status lacks.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[str, dict[str, _Entry]] = {}

    def put(self, report: Object) -> bool:
        """Keep ``report`` unless one as new is held; says whether it was kept.

        The higher ``sequence`` wins. ``attempt`` goes before it: an attempt that found an emptied volume
        counts from one again, and what it says is still newer than what an earlier attempt said.
        Raises KeyError without ``jobUid``, ``role`` or ``sequence``.
        """
        name = _file_name(report)
        with self._lock:
            entries = self._jobs.setdefault(report["jobUid"], {})
            entry = entries.get(name)
            if entry is None:
                entries[name] = _Entry(report)
                return True
            if _age(report) <= _age(entry.report):
                return False
            entry.report = report
            return True

    def acknowledgement(self, report: Object) -> Future[None]:
        """Done once status says what ``report`` does; at once where it tells nothing new but progress.

        Cancelled if the job goes away first. Raises KeyError for one that was never :meth:`put`.
        """
        with self._lock:
            entry = self._jobs[report["jobUid"]][_file_name(report)]
            promise: Future[None] = Future()
            if _says_no_more(report, entry.acknowledged):
                promise.set_result(None)
            else:
                entry.waiting.append(promise)
            return promise

    def acknowledge(self, job_uid: str, reports: Iterable[Object]) -> None:
        """Status speaks of these reports, which :meth:`latest` gave before it was decided."""
        done: list[Future[None]] = []
        with self._lock:
            entries = self._jobs.get(job_uid, {})
            for report in reports:
                entry = entries.get(_file_name(report))
                if entry is None or (entry.acknowledged and _age(report) < _age(entry.acknowledged)):
                    continue
                entry.acknowledged = report
                if _says_no_more(entry.report, report):
                    done += entry.waiting
                    entry.waiting = []
        for promise in done:  # outside the lock: whoever waits may come back
            if promise.set_running_or_notify_cancel():
                promise.set_result(None)

    def latest(self, job_uid: str) -> list[Object]:
        """The held reports of a job, in the order of their file names. Must not be changed."""
        with self._lock:
            entries = self._jobs.get(job_uid, {})
            return [entries[name].report for name in sorted(entries)]

    def forget(self, job_uid: str) -> None:
        """Drop what a deleted job reported."""
        with self._lock:
            entries = self._jobs.pop(job_uid, {})
        for entry in entries.values():
            for promise in entry.waiting:
                promise.cancel()


def _file_name(report: Object) -> str:
    stage = report.get("stage")
    return f"{report['role']}-{stage}.json" if stage else f"{report['role']}.json"


def _age(report: Object) -> tuple[int, int]:
    return (report.get("attempt", 0), report["sequence"])


def _says_no_more(report: Object, acknowledged: Object | None) -> bool:
    """Whether everything that must not be lost in ``report`` is in ``acknowledged``."""
    if acknowledged is None:
        return False
    if _age(report) <= _age(acknowledged):
        return True
    return all(acknowledged.get(k) == v for k, v in report.items() if k not in PASSING)
