"""Read jobs and gates for pages: what a page just read is not read again, and each version of an object is
parsed once."""

import threading
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from tunegate_api.contract import Request
from tunegate_api.judging.case_comparison import Comparison
from tunegate_api.v1alpha1 import EvalGateStatus, FineTuneJobStatus
from tunegate_client.places.client import Client, ClientError, Kind, read_status
from tunegate_client.ui.shared_reads import SharedReads
from tunegate_operator.engine.clock import Clock
from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.expiring_cache import ExpiringCache

KEPT_SECONDS = 1.0
"""For how long an answer or an error of the client is used again, so that several open pages cost one
request."""
KEPT_READS = 64
KEPT_REQUEST_SECONDS = 3600.0
KEPT_CASES = 8
"""The number of jobs whose compared cases are kept in memory: a comparison may have megabytes."""

_Status = TypeVar("_Status", FineTuneJobStatus, EvalGateStatus)
_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Parsed(Generic[_Status]):
    """An object with its parsed status."""

    obj: Object
    status: _Status
    problem: str = ""
    """Why the status cannot be shown. Then ``status`` is empty."""

    @property
    def name(self) -> str:
        return str(self.obj["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.obj["metadata"].get("namespace", "default"))

    @property
    def uid(self) -> str:
        return str(self.obj["metadata"].get("uid", ""))

    @property
    def created(self) -> datetime | None:
        text = self.obj["metadata"].get("creationTimestamp")
        return datetime.fromisoformat(text).astimezone(UTC) if text else None


Job = Parsed[FineTuneJobStatus]
Gate = Parsed[EvalGateStatus]


class Reader:
    """Reads through a client. Its methods raise ClientError, and may be called in several threads."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self.client = client
        self.clock = clock
        self._reads = SharedReads(KEPT_READS, KEPT_SECONDS, clock)
        self._lock = threading.Lock()
        """Protects the requests and the cases. No thread holds it while it reads."""
        self._jobs: dict[str, tuple[str, Job]] = {}
        self._gates: dict[str, tuple[str, Gate]] = {}
        self._requests: ExpiringCache[Request] = ExpiringCache(KEPT_READS, KEPT_REQUEST_SECONDS, clock)
        self._cases: dict[str, tuple[object, list[Comparison]]] = {}

    def jobs(self) -> list[Job]:
        """Return all jobs, sorted by name."""
        objects = self._reads.get("FineTuneJob", lambda: self.client.list_objects("FineTuneJob"))
        jobs = [self._job(obj) for obj in objects]
        self._forget(self._jobs, {job.uid for job in jobs})
        return jobs

    def gates(self) -> list[Gate]:
        """Return all gates, sorted by name."""
        objects = self._reads.get("EvalGate", lambda: self.client.list_objects("EvalGate"))
        gates = [self._gate(obj) for obj in objects]
        self._forget(self._gates, {gate.uid for gate in gates})
        return gates

    def job(self, name: str) -> Job:
        """Return one job. Raises UnknownNameError."""
        return self._job(self._object("FineTuneJob", name))

    def gate(self, name: str) -> Gate:
        """Return one gate. Raises UnknownNameError."""
        return self._gate(self._object("EvalGate", name))

    def interrupted(self, jobs: Collection[Job]) -> set[str]:
        """Return the names of the jobs that have not ended, but that no process runs."""
        return self.client.interrupted([job.obj for job in jobs])

    def request(self, job: Job) -> Request | None:
        """Return the spec and the gates with which a job started; None before it started. They never
        change."""
        name = job.status.request
        if name is None:
            return None
        key = f"Request/{job.uid}/{name}"
        with self._lock:
            known = self._requests.get(key)
        if known is None:
            known = self._reads.get(key, lambda: self.client.read_request(job.obj))
            if known:
                with self._lock:
                    self._requests.put(key, known)
        return known

    def events(self, job: Job) -> list[Object]:
        """Return the Events about a job, oldest first."""
        return self._reads.get(f"Event/{job.uid}", lambda: self.client.list_events(job.obj))

    def cases(self, job: Job) -> list[Comparison]:
        """Return the comparisons of cases with outputs. They are read again only when there is a newer model
        to compare. Raises ClientError if the outputs cannot be read."""
        status = job.status
        last = status.checkpoints[-1] if status.checkpoints else None
        version = (
            status.final.model_digest if status.final else "",
            status.stop.id if status.stop else "",
            (last.stage, last.step) if last else (),
        )
        with self._lock:
            known = self._cases.get(job.uid)
        if known and known[0] == version:
            return known[1]
        found = self.client.read_cases(job.obj)
        with self._lock:
            self._cases.pop(job.uid, None)
            self._cases[job.uid] = (version, found)
            while len(self._cases) > KEPT_CASES:
                del self._cases[next(iter(self._cases))]
        return found

    def _object(self, kind: Kind, name: str) -> Object:
        return self._reads.get(f"{kind}/{name}", lambda: self.client.get(kind, name))

    def _job(self, obj: Object) -> Job:
        return _parsed(obj, self._jobs, FineTuneJobStatus)

    def _gate(self, obj: Object) -> Gate:
        return _parsed(obj, self._gates, EvalGateStatus)

    @staticmethod
    def _forget(known: dict[str, tuple[str, _Read]], uids: set[str]) -> None:
        """Drop the objects that no longer exist."""
        for uid in set(known) - uids:  # a copy, because another thread may add objects
            known.pop(uid, None)


def _parsed(
    obj: Object, known: dict[str, tuple[str, Parsed[_Status]]], type: type[_Status]
) -> Parsed[_Status]:
    """Return the object with its parsed status, from ``known`` if this version was parsed before."""
    metadata = obj["metadata"]
    uid, version = str(metadata.get("uid", "")), str(metadata.get("resourceVersion", ""))
    before = known.get(uid)
    if before and version and before[0] == version:
        return before[1]
    try:
        parsed = Parsed(obj, read_status(obj, type))
    except ClientError as error:
        parsed = Parsed(obj, type(), str(error))
    known[uid] = (version, parsed)
    return parsed
