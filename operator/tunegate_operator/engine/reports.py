"""The latest report of each role and stage of a job, and whether status says what it said."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.objects import read_json, write_json

PASSING = ("attempt", "sequence", "time", "progress", "usage")
"""Fields of a report that may be lost: the next one says them anew."""
RECORDED = ("plan", "results")
"""Fields that ConfigMaps hold once a report is acknowledged."""
MAX_JOB_BYTES = 4 * 1024 * 1024
"""What a job's reports may hold: its plan and its results fit one ConfigMap each, of 1 MiB."""
MAX_BYTES = 32 * 1024 * 1024
"""What the reports of all jobs may hold before recorded fields are released, and large jobs have to wait."""


class JobTooLargeError(ValueError):
    """The reports of one job hold more than can ever be recorded: sending them again does not help."""


class StoreFullError(Exception):
    """The reports of all jobs hold too much until some are recorded: send the report again later."""


@dataclass(frozen=True)
class _Said:
    """What decides whether a report is news: its age, and a digest of all that must not be lost."""

    age: tuple[int, int]
    digest: bytes

    @classmethod
    def by(cls, report: Object) -> "_Said":
        lasting = {name: value for name, value in report.items() if name not in PASSING}
        return cls(_age(report), hashlib.sha256(write_json(lasting)).digest())

    def is_in(self, acknowledged: "_Said | None") -> bool:
        """Whether everything that must not be lost is in what is acknowledged."""
        if acknowledged is None:
            return False
        return self.age <= acknowledged.age or self.digest == acknowledged.digest


@dataclass
class _Entry:
    """What one role and stage of a job said. Held as JSON text, which takes a fifth of the memory."""

    text: bytes
    said: _Said
    acknowledged: _Said | None = None
    """The newest report that status speaks of."""
    waiting: list[Future[None]] = field(default_factory=list)


class ReportStore:
    """Thread-safe. Reports are cumulative, so only the latest of each role and stage counts.

    In memory only: after a restart, pods and the outboxes on the volumes tell again what status lacks.
    """

    def __init__(self, *, max_job_bytes: int = MAX_JOB_BYTES, max_bytes: int = MAX_BYTES) -> None:
        self._max_job_bytes = max_job_bytes
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._jobs: dict[str, dict[str, _Entry]] = {}
        self._bytes = 0
        self._recorded: OrderedDict[tuple[str, str], None] = OrderedDict()
        """Entries whose recorded fields may be released, by job and file name, the oldest first."""

    @property
    def held_bytes(self) -> int:
        """What all reports hold."""
        return self._bytes

    def put(self, report: Object) -> bool:
        """Keep ``report`` unless one as new is held; says whether it was kept.

        The higher ``sequence`` wins. ``attempt`` goes before it: an attempt that found an emptied volume
        counts from one again, and what it says is still newer than what an earlier attempt said.
        Raises KeyError without ``jobUid``, ``role`` or ``sequence``; JobTooLargeError and StoreFullError
        for a report that is not kept because it holds too much.
        """
        uid, name, text, said = report["jobUid"], _file_name(report), write_json(report), _Said.by(report)
        with self._lock:
            entry = self._jobs.get(uid, {}).get(name)
            if entry and said.age <= entry.said.age:
                return False
            self._make_room(uid, len(text) - (len(entry.text) if entry else 0))
            if entry is None:
                self._jobs.setdefault(uid, {})[name] = _Entry(text, said)
                self._bytes += len(text)
            else:
                self._replace(entry, text)
                entry.said = said
                self._recorded.pop((uid, name), None)
            return True

    def acknowledgement(self, report: Object) -> Future[None]:
        """Done once status says what ``report`` does; at once where it tells nothing new but progress.

        Cancelled if the job goes away first. Raises KeyError for one that was never :meth:`put`.
        """
        said = _Said.by(report)
        with self._lock:
            entry = self._jobs[report["jobUid"]][_file_name(report)]
            promise: Future[None] = Future()
            if said.is_in(entry.acknowledged):
                promise.set_result(None)
            else:
                entry.waiting = [other for other in entry.waiting if not other.cancelled()]
                entry.waiting.append(promise)
            return promise

    def acknowledge(self, job_uid: str, reports: Iterable[Object]) -> None:
        """Status speaks of these reports, which :meth:`latest` gave before it was decided."""
        spoken_of = [(_file_name(report), _Said.by(report)) for report in reports]
        done: list[Future[None]] = []
        with self._lock:
            entries = self._jobs.get(job_uid, {})
            for name, said in spoken_of:
                entry = entries.get(name)
                if entry is None or (entry.acknowledged and said.age < entry.acknowledged.age):
                    continue
                # A report whose recorded fields were released is still the one that was acknowledged.
                if entry.acknowledged is None or said.age > entry.acknowledged.age:
                    entry.acknowledged = said
                    self._recorded[job_uid, name] = None
                if entry.said.is_in(entry.acknowledged):
                    done += entry.waiting
                    entry.waiting = []
                else:
                    self._recorded.pop((job_uid, name), None)
        for promise in done:  # outside the lock: whoever waits may come back
            if promise.set_running_or_notify_cancel():
                promise.set_result(None)

    def latest(self, job_uid: str) -> list[Object]:
        """The held reports of a job, in the order of their file names."""
        with self._lock:
            entries = self._jobs.get(job_uid, {})
            texts = [entries[name].text for name in sorted(entries)]
        return [read_json(text) for text in texts]

    def forget(self, job_uid: str) -> None:
        """Drop what a deleted job reported."""
        with self._lock:
            entries = self._jobs.pop(job_uid, {})
            self._bytes -= sum(len(entry.text) for entry in entries.values())
            for name in entries:
                self._recorded.pop((job_uid, name), None)
        for entry in entries.values():
            for promise in entry.waiting:
                promise.cancel()

    def _make_room(self, uid: str, more: int) -> None:
        """Make room for ``more`` bytes of a job: release what ConfigMaps hold, the oldest first.

        A job may always hold its share of the whole, so a few large jobs cannot stop the reports of others.
        """
        own = [key for key in self._recorded if key[0] == uid]
        for _ in self._released(own):
            if self._held(uid) + more <= self._max_job_bytes:
                break
        if self._held(uid) + more > self._max_job_bytes:
            raise JobTooLargeError(
                f"the job's reports are larger than {self._max_job_bytes} bytes, too large for its ConfigMaps"
            )
        for _ in self._released(list(self._recorded)):
            if self._bytes + more <= self._max_bytes:
                return
        share = self._max_bytes // (len(self._jobs) + (uid not in self._jobs))
        if self._bytes + more > self._max_bytes and self._held(uid) + more > share:
            raise StoreFullError("the operator holds too many reports that are not recorded yet")

    def _released(self, keys: Iterable[tuple[str, str]]) -> Iterator[None]:
        """Release the recorded fields of one entry after another; the first step releases none."""
        yield
        for uid, name in keys:
            entry = self._jobs[uid][name]
            report = read_json(entry.text)
            self._replace(entry, write_json({k: v for k, v in report.items() if k not in RECORDED}))
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
