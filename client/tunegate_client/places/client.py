"""The interface that the commands and the web page use to read jobs and gates. Two implementations pass the
same conformance tests: a runs folder on this machine, and the namespace of a cluster."""

from collections.abc import Collection, Iterable, Iterator
from typing import Literal, Protocol

from pydantic import ValidationError

from tunegate_api.contract.request import Request
from tunegate_api.meta import first_problem, summarize
from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_api.v1alpha2.reasons import Phase
from tunegate_operator.children.pod_status import container_state, is_terminal
from tunegate_operator.decisions import verdict_actions
from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.controller import StatusT, UnreadableStatusError, parse_status
from tunegate_operator.engine.events import event_time
from tunegate_operator.engine.objects import resource_version
from tunegate_operator.names import CONTAINER, REQUEST_KEY

MAX_NAMES = 20
"""How many names an error message lists."""
Kind = Literal["FineTuneJob", "EvalGate"]


class ClientError(Exception):
    """The request failed. The message is for users, and says what to do."""


class UnknownNameError(ClientError):
    """There is no object with this name. The message lists the names that exist."""


class ClusterUnreachableError(ClientError):
    """The cluster does not answer, or cannot carry out requests at present. A retry may succeed."""


class Client(Protocol):
    """Reads jobs and gates. Every method may raise :class:`ClientError`."""

    @property
    def place(self) -> str:
        """Where the jobs are, for texts: the runs folder, or the namespace and the context of a cluster."""
        ...

    def list_objects(self, kind: Kind) -> list[Object]:
        """Return all objects of a kind, sorted by name."""
        ...

    def get(self, kind: Kind, name: str) -> Object:
        """Return one object. Raises UnknownNameError."""
        ...

    def watch(self, kind: Kind, name: str) -> Iterator[Object]:
        """Yield the object now, and after each change of it, until it is deleted. Reconnects after an
        interruption. Raises UnknownNameError if the object does not exist at first."""
        ...

    def interrupted(self, jobs: Collection[Object]) -> set[str]:
        """Return the names of the jobs that have not ended, but that no process runs. A person has to run
        them again. Empty for a cluster, where the operator runs all jobs."""
        ...

    def list_events(self, obj: Object) -> list[Object]:
        """Return the Kubernetes Events about an object, oldest first."""
        ...

    def list_pods(self, job: Object) -> list[Object]:
        """Return the pods of a job that still exist, oldest first."""
        ...

    def read_log(self, pod: Object, *, follow: bool = False) -> Iterator[str]:
        """Yield the lines of the log of a pod whose container has started. With ``follow``, continue until
        the container has ended; an interrupted connection is resumed without repeating lines."""
        ...

    def read_request(self, job: Object) -> Request | None:
        """Return the spec and the gates with which a job started, which never change. None if it has not
        started."""
        ...

    def read_report(self, job: Object) -> bytes:
        """Return the job's report, an HTML page. Raises ClientError if there is no report yet.

        On a cluster, this starts a pod that reads the report from the job's volume, and takes seconds."""
        ...

    def read_review_sample(self, job: Object) -> str:
        """Return the rows that people review, as JSON Lines. Raises ClientError if the job has no sample.

        On a cluster, this starts a pod, see :meth:`read_report`."""
        ...

    def read_config_map(self, name: str) -> Object | None:
        """Return a ConfigMap, or None."""
        ...

    def read_score_maps(self, job: str) -> list[Object]:
        """Return the ConfigMaps with scores of people for the named job, by name. At most as many as
        count."""
        ...


def status_of(job: Object) -> FineTuneJobStatus:
    """Return the status of a FineTuneJob. Raises ClientError if another version of Tunegate wrote it."""
    return read_status(job, FineTuneJobStatus)


def read_status(obj: Object, model: type[StatusT]) -> StatusT:
    """Return the status of an object. Raises ClientError if another version of Tunegate wrote it."""
    try:
        return parse_status(obj, model)
    except UnreadableStatusError as error:
        raise ClientError(
            f"{obj['kind']} {obj['metadata']['name']}: {error}; use the version of Tunegate that wrote it"
        ) from error


def verdict_to_decide(job: Object, action: str, place: str) -> str:
    """Return the digest of the final verdict of a job that waits for this decision of a person: approve,
    override or reject. Raises ClientError if the job does not wait for it."""
    name, status = job["metadata"]["name"], status_of(job)
    final = status.final
    if status.phase is not Phase.AWAITING_APPROVAL or final is None or status.verdict_decision:
        raise ClientError(
            f"FineTuneJob {name} in {place} does not wait for a decision about its final verdict: "
            f"it is {status.phase or Phase.PENDING}"
        )
    actions = verdict_actions(final.verdict)
    if action not in actions:
        raise ClientError(f"the verdict of FineTuneJob {name} is {final.verdict}: {' or '.join(actions)} it")
    return final.verdict_digest or ""


def parse_request(job: Object, config_map: Object | None) -> Request | None:
    """Return the request of a job from the ConfigMap that records it. Raises ClientError if it cannot be
    read."""
    if config_map is None:
        return None
    try:
        return Request.model_validate_json((config_map.get("data") or {}).get(REQUEST_KEY, ""))
    except ValidationError as error:
        raise ClientError(
            f"ConfigMap {config_map['metadata']['name']}, which records how FineTuneJob "
            f"{job['metadata']['name']} started, was edited or written by another version of Tunegate: "
            f"{first_problem(error)}"
        ) from error


def age_key(obj: Object) -> tuple[str, int]:
    """Return a key that sorts objects of one kind by age, the oldest first. Creation times have whole
    seconds, so the resourceVersion decides between equal ones."""
    return obj["metadata"].get("creationTimestamp", ""), resource_version(obj)


def sorted_events(events: Iterable[Object]) -> list[Object]:
    """Return Events sorted by the time at which they last occurred, the oldest first."""
    return sorted(events, key=lambda event: (event_time(event), resource_version(event)))


def has_log(pod: Object) -> bool:
    """Return whether a pod has a log, because its container has started."""
    return not {"running", "terminated"}.isdisjoint(container_state(pod, CONTAINER))


def has_ended(pod: Object) -> bool:
    """Return whether a pod writes no more to its log."""
    return is_terminal(pod) or "terminated" in container_state(pod, CONTAINER)


def unknown_name(kind: Kind, name: str, place: str, names: Collection[str]) -> UnknownNameError:
    """Return the error for a name that does not exist."""
    existing = summarize(sorted(names), MAX_NAMES) or "none"
    return UnknownNameError(f"there is no {kind} {name} in {place}; its {kind}s: {existing}")
