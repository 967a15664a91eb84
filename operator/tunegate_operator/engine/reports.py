"""The latest report of each role and stage of a job."""

import threading

from tunegate_operator.engine.cluster import Object


class ReportStore:
    """Thread-safe. Reports are cumulative, so only the latest of each role and stage counts.

    In memory only: after a restart the outboxes on the volumes are read again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: dict[str, dict[str, Object]] = {}

    def put(self, report: Object) -> bool:
        """Keep ``report`` unless one as new is held; says whether it was kept.

        The higher ``sequence`` wins. ``attempt`` goes before it: an attempt that found an emptied volume
        counts from one again, and what it says is still newer than what an earlier attempt said.
        Raises KeyError without ``jobUid``, ``role`` or ``sequence``.
        """
        name = _file_name(report)
        with self._lock:
            reports = self._latest.setdefault(report["jobUid"], {})
            if name in reports and _age(report) <= _age(reports[name]):
                return False
            reports[name] = report
            return True

    def latest(self, job_uid: str) -> list[Object]:
        """The held reports of a job, in the order of their file names. Must not be changed."""
        with self._lock:
            reports = self._latest.get(job_uid, {})
            return [reports[name] for name in sorted(reports)]

    def forget(self, job_uid: str) -> None:
        """Drop what a deleted job reported."""
        with self._lock:
            self._latest.pop(job_uid, None)


def _file_name(report: Object) -> str:
    stage = report.get("stage")
    return f"{report['role']}-{stage}.json" if stage else f"{report['role']}.json"


def _age(report: Object) -> tuple[int, int]:
    return (report.get("attempt", 0), report["sequence"])
