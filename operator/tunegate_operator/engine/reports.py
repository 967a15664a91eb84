"""Store the latest report of each role and training stage of a job. Acknowledge a report once it is in
status."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.objects import read_json, write_json

TRANSIENT_FIELDS = ("attempt", "sequence", "time", "progress", "usage")
"""Fields of a report that may be lost, because the next report has newer values of them."""
RECORDED_FIELDS = ("plan", "results")
"""Fields of a report that are stored in ConfigMaps before the report is acknowledged."""
MAX_JOB_BYTES = 4 * 1024 * 1024
"""Limit for the total bytes of the stored reports of one job. The job's plan must fit into one ConfigMap of
1 MiB, and its results must fit into another."""
MAX_BYTES = 32 * 1024 * 1024
"""Limit for the total bytes of the stored reports of all jobs. Above the limit, fields that are in ConfigMaps
already are dropped first; if that is not enough, jobs with large reports have to retry."""


class JobTooLargeError(ValueError):
    """The reports of one job are too large for its ConfigMaps. Retrying does not help."""


class StoreFullError(Exception):
    """The reports of all jobs together are too large. Retry once some of them are stored in ConfigMaps."""


@dataclass(frozen=True)
class _Version:
    """Identifies the content of a report by its age (attempt and sequence), and by a digest of the fields
    that must not be lost."""

    age: tuple[int, int]
    digest: bytes

    @classmethod
    def of(cls, report: Object) -> "_Version":
        lasting = {name: value for name, value in report.items() if name not in TRANSIENT_FIELDS}
        return cls(_age(report), hashlib.sha256(write_json(lasting)).digest())

    def is_covered_by(self, acknowledged: "_Version | None") -> bool:
        """Return whether this report needs no acknowledgement of its own.

        It needs none if it is not newer than the acknowledged report, or if both reports have the same values
        in the fields that must not be lost."""
        if acknowledged is None:
            return False
        return self.age <= acknowledged.age or self.digest == acknowledged.digest


@dataclass
class _Entry:
    """The latest report of one role and stage, as JSON text, which needs a fifth of the memory of a dict."""

    text: bytes
    version: _Version
    acknowledged: _Version | None = None
    """The version of the newest report that is in status."""
    waiting: list[Future[None]] = field(default_factory=list)


class ReportStore:
    """Keeps the latest report of each role and stage, because reports are cumulative. Thread-safe.

    Reports are in memory only. After a restart of the operator, pods resend the reports that were not
    acknowledged, from their own memory or from the outbox on the volume.
    """

    def __init__(self, *, max_job_bytes: int = MAX_JOB_BYTES, max_bytes: int = MAX_BYTES) -> None:
        self._max_job_bytes = max_job_bytes
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._jobs: dict[str, dict[str, _Entry]] = {}
        self._bytes = 0
        self._recorded: OrderedDict[tuple[str, str], None] = OrderedDict()
        """Job uid and file name of each entry whose RECORDED_FIELDS may be dropped, the oldest first."""

    def put(self, report: Object) -> bool:
        """Store ``report`` if it is newer than the stored report. Returns whether it was stored.

        The report with the higher ``attempt`` is newer; within an attempt, the one with the higher
        ``sequence``. A later attempt may have a lower ``sequence``: it starts at 1 again if the volume was
        emptied. Raises KeyError if ``jobUid``, ``role`` or ``sequence`` is missing, and JobTooLargeError or
        StoreFullError if there is no room.
        """
        uid, name = report["jobUid"], _file_name(report)
        text, version = write_json(report), _Version.of(report)
        with self._lock:
            entry = self._jobs.get(uid, {}).get(name)
            if entry and version.age <= entry.version.age:
                return False
            self._make_room(uid, len(text) - (len(entry.text) if entry else 0))
            if entry is None:
                self._jobs.setdefault(uid, {})[name] = _Entry(text, version)
                self._bytes += len(text)
            else:
                self._replace(entry, text)
                entry.version = version
                self._recorded.pop((uid, name), None)
            return True

    def acknowledgement(self, report: Object) -> Future[None]:
        """Return a future that is done when ``report`` is in status.

        It is done at once if only TRANSIENT_FIELDS differ from the acknowledged report, and cancelled if the
        job is deleted first. Raises KeyError if no report of this role and stage was stored with :meth:`put`.
        """
        version = _Version.of(report)
        with self._lock:
            entry = self._jobs[report["jobUid"]][_file_name(report)]
            promise: Future[None] = Future()
            if version.is_covered_by(entry.acknowledged):
                promise.set_result(None)
            else:
                entry.waiting = [other for other in entry.waiting if not other.cancelled()]
                entry.waiting.append(promise)
            return promise

    def acknowledge(self, job_uid: str, reports: Iterable[Object]) -> None:
        """Acknowledge ``reports``, which :meth:`latest` returned before the decision and which are in status
        now."""
        versions = [(_file_name(report), _Version.of(report)) for report in reports]
        done: list[Future[None]] = []
        with self._lock:
            entries = self._jobs.get(job_uid, {})
            for name, version in versions:
                entry = entries.get(name)
                if entry is None or (entry.acknowledged and version.age < entry.acknowledged.age):
                    continue
                # A report whose recorded fields were dropped still counts as the acknowledged one.
                if entry.acknowledged is None or version.age > entry.acknowledged.age:
                    entry.acknowledged = version
                    self._recorded[job_uid, name] = None
                if entry.version.is_covered_by(entry.acknowledged):
                    done += entry.waiting
                    entry.waiting = []
                else:
                    self._recorded.pop((job_uid, name), None)
        for promise in done:  # outside the lock, because callbacks may call this store
            if promise.set_running_or_notify_cancel():
                promise.set_result(None)

    def latest(self, job_uid: str) -> list[Object]:
        """Return the stored reports of a job, in the order of their file names."""
        with self._lock:
            entries = self._jobs.get(job_uid, {})
            texts = [entries[name].text for name in sorted(entries)]
        return [read_json(text) for text in texts]

    def forget(self, job_uid: str) -> None:
        """Drop the reports of a deleted job, and cancel its acknowledgements."""
        with self._lock:
            entries = self._jobs.pop(job_uid, {})
            self._bytes -= sum(len(entry.text) for entry in entries.values())
            for name in entries:
                self._recorded.pop((job_uid, name), None)
        for entry in entries.values():
            for promise in entry.waiting:
                promise.cancel()

    def _make_room(self, uid: str, more: int) -> None:
        """Make room for ``more`` bytes for a job: drop fields that are in ConfigMaps, the oldest first.

        The limit for all jobs is divided by the number of jobs. StoreFullError is raised only for a job that
        needs more than this part, so a few jobs with large reports cannot block the small ones. Also raises
        JobTooLargeError.
        """
        own = [key for key in self._recorded if key[0] == uid]
        for _ in self._drop_recorded(own):
            if self._held(uid) + more <= self._max_job_bytes:
                break
        if self._held(uid) + more > self._max_job_bytes:
            raise JobTooLargeError(
                f"the job's reports have more than {self._max_job_bytes} bytes, which its ConfigMaps cannot "
                "store: use smaller golden sets, or evaluate fewer checkpoints (spec.evaluation.every)"
            )
        for _ in self._drop_recorded(list(self._recorded)):
            if self._bytes + more <= self._max_bytes:
                return
        share = self._max_bytes // (len(self._jobs) + (uid not in self._jobs))
        if self._bytes + more > self._max_bytes and self._held(uid) + more > share:
            raise StoreFullError("the operator has no room for this report at present")

    def _drop_recorded(self, keys: Iterable[tuple[str, str]]) -> Iterator[None]:
        """Drop the RECORDED_FIELDS of one entry after another.

        Yields before the first entry and after each entry, so that the caller can stop once there is
        room."""
        yield
        for uid, name in keys:
            entry = self._jobs[uid][name]
            report = read_json(entry.text)
            self._replace(entry, write_json({k: v for k, v in report.items() if k not in RECORDED_FIELDS}))
            del self._recorded[uid, name]
            yield

    def _held(self, uid: str) -> int:
        return sum(len(entry.text) for entry in self._jobs.get(uid, {}).values())

    def _replace(self, entry: _Entry, text: bytes) -> None:
        self._bytes += len(text) - len(entry.text)
        entry.text = text


def _file_name(report: Object) -> str:
    stage = report.get("stage")
    return f"{report['role']}-{stage}.json" if stage else f"{report['role']}.json"


def _age(report: Object) -> tuple[int, int]:
    return (report.get("attempt", 0), report["sequence"])
