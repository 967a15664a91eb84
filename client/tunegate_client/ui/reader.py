"""Read jobs and gates for pages: what a page just read is not read again, and each version of an object is
parsed once."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from tunegate_api.v1alpha2 import EvalGateStatus, FineTuneJobStatus
from tunegate_client.places.client import Client, ClientError, Kind, read_status
from tunegate_client.ui.shared_reads import SharedReads
from tunegate_operator.engine.clock import Clock
from tunegate_operator.engine.cluster import Object

KEPT_SECONDS = 1.0
"""For how long an answer or an error of the client is used again, so that several open pages cost one
request."""
KEPT_READS = 64

_Status = TypeVar("_Status", FineTuneJobStatus, EvalGateStatus)
_Read = TypeVar("_Read")


@dataclass(frozen=True)
class ParsedObject(Generic[_Status]):
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


Job = ParsedObject[FineTuneJobStatus]
Gate = ParsedObject[EvalGateStatus]


class Reader:
    """Reads through a client. Its methods raise ClientError, and may be called in several threads."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self.client = client
        self.clock = clock
        self._reads = SharedReads(KEPT_READS, KEPT_SECONDS, clock)
        self._jobs: dict[str, tuple[str, Job]] = {}
        self._gates: dict[str, tuple[str, Gate]] = {}

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

    def events(self, job: Job) -> list[Object]:
        """Return the Events about a job, oldest first."""
        return self._reads.get(f"Event/{job.uid}", lambda: self.client.list_events(job.obj))

    def report(self, job: Job) -> bytes:
        """Return the report of a job, an HTML page. Raises ClientError if there is none yet."""
        return self._reads.get(f"report/{job.uid}", lambda: self.client.read_report(job.obj))

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
    obj: Object, known: dict[str, tuple[str, ParsedObject[_Status]]], type: type[_Status]
) -> ParsedObject[_Status]:
    """Return the object with its parsed status, from ``known`` if this version was parsed before."""
    metadata = obj["metadata"]
    uid, version = str(metadata.get("uid", "")), str(metadata.get("resourceVersion", ""))
    before = known.get(uid)
    if before and version and before[0] == version:
        return before[1]
    try:
        parsed = ParsedObject(obj, read_status(obj, type))
    except ClientError as error:
        parsed = ParsedObject(obj, type(), str(error))
    known[uid] = (version, parsed)
    return parsed
