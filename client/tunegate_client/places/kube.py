"""Read and change the jobs and gates in a namespace of a cluster, with a user's kubeconfig."""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, Self

import yaml
from kubernetes import config
from urllib3.exceptions import HTTPError

from tunegate_api.contract.request import Request
from tunegate_api.judging.review import MAX_SCORE_MAPS
from tunegate_client.laptop.report_page import with_status
from tunegate_client.places.client import (
    ClientError,
    ClusterUnreachableError,
    Kind,
    age_key,
    has_ended,
    parse_request,
    sorted_events,
    status_of,
    unknown_name,
    verdict_to_decide,
)
from tunegate_client.places.log_position import LogPosition
from tunegate_client.places.retry import Retry
from tunegate_client.places.volume_file import REPORT, REVIEW_SAMPLE, VolumeFile, read_file
from tunegate_operator.decisions import ReasonTooLongError, stop_decision, verdict_decision
from tunegate_operator.engine.apply import apply
from tunegate_operator.engine.clock import SystemClock
from tunegate_operator.engine.cluster import (
    ClusterError,
    ForbiddenError,
    InvalidObjectError,
    Key,
    NotFoundError,
    Object,
    RequestRefusedError,
    UnauthorizedError,
    UnknownKindError,
)
from tunegate_operator.engine.connection import connect_user
from tunegate_operator.engine.kubernetes import REQUEST_SECONDS, KubernetesCluster, SilentError
from tunegate_operator.engine.objects import uid_of
from tunegate_operator.engine.owners import controlling_owner
from tunegate_operator.names import (
    ATTEMPT_LABEL,
    CONTAINER,
    JOB_LABEL,
    REVIEW_LABEL,
    VERDICT_ANNOTATIONS,
    request_name,
)

WATCH_SECONDS = 60
"""Seconds after which the server ends a watch. It is then opened again, so dead connections are detected."""
SILENT_SECONDS = 60.0
"""Seconds without a new line after which the request for a log is repeated, for the same reason."""
RECONNECT_SECONDS = 0.5
"""Seconds until the log of a pod that has not ended is requested again after the server ended an answer."""
CONNECTIONS = 4
EVENT_PAGES = 10
"""The most pages of Events about one object that are read, which have room for 2,000 Events."""
_PERMANENT = (ForbiddenError, InvalidObjectError, NotFoundError, RequestRefusedError)
"""Errors that a retry does not fix."""


_UNUSABLE = (config.ConfigException, yaml.YAMLError, OSError, AttributeError, TypeError, ValueError)
"""What the client library raises for a missing or wrong kubeconfig. The last three are for a file that is no
kubeconfig."""


class KubernetesClient:
    """Implements :class:`tunegate_client.places.client.Client` with an API server. Thread-safe.

    ``notice`` is called with a sentence when a request is retried, or waits for a pod."""

    def __init__(
        self,
        cluster: KubernetesCluster,
        namespace: str,
        context: str,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.namespace = namespace
        self._cluster = cluster
        self._context = context
        self._notice = notice

    @classmethod
    def connect(
        cls,
        *,
        kubeconfig: str | None = None,
        context: str | None = None,
        namespace: str | None = None,
        notice: Callable[[str], None] = lambda _: None,
        seconds: float | None = None,
    ) -> Self:
        """Connect with the credentials that kubectl would use with these options. Raises ClientError.

        The default namespace is the context's. ``seconds`` is the timeout of a request. No request is sent
        yet."""
        try:
            found = connect_user(kubeconfig, context, CONNECTIONS)
        except _UNUSABLE as error:
            raise ClientError(
                f"no cluster is configured: {error}; set KUBECONFIG or --kubeconfig to the path of a "
                "kubeconfig, and --context to one of its contexts"
            ) from error
        cluster = KubernetesCluster(found.api, SystemClock(), seconds=seconds or REQUEST_SECONDS)
        return cls(cluster, namespace or found.namespace, found.context, notice)

    @property
    def place(self) -> str:
        return f"namespace {self.namespace} of context {self._context}"

    def list_objects(self, kind: Kind) -> list[Object]:
        with self._explained(f"the {kind}s cannot be listed"):
            return sorted(self._cluster.list_objects(kind, self.namespace), key=Key.of)

    def get(self, kind: Kind, name: str) -> Object:
        found = self._find(kind, name)
        if found is None:
            names = [obj["metadata"]["name"] for obj in self.list_objects(kind)]
            raise unknown_name(kind, name, self.place, names)
        return found

    def watch(self, kind: Kind, name: str) -> Iterator[Object]:
        first = obj = self.get(kind, name)
        yield obj
        retry = Retry(self._notice)
        while True:
            try:
                current = self._find(kind, name)
                if current is None or uid_of(current) != uid_of(first):
                    return
                retry.succeeded()
                if current["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]:
                    obj = current
                    yield obj
                with self._explained(f"{kind} {name} cannot be watched"):
                    for event in self._changes(kind, obj):
                        if event["type"] == "DELETED":
                            return
                        obj = event["object"]
                        yield obj
            except ClusterUnreachableError as error:
                retry.wait(error)

    def interrupted(self, jobs: Collection[Object]) -> set[str]:
        del jobs
        return set()

    def list_events(self, obj: Object) -> list[Object]:
        with self._explained(f"the Events of {obj['kind']} {obj['metadata']['name']} cannot be listed"):
            events = self._cluster.list_events(self.namespace, uid_of(obj), EVENT_PAGES)
        return sorted_events(events)

    def list_pods(self, job: Object) -> list[Object]:
        name = job["metadata"]["name"]
        with self._explained(f"the pods of FineTuneJob {name} cannot be listed"):
            pods = list(self._cluster.list_objects("Pod", self.namespace, f"{JOB_LABEL}={name}"))
        return sorted((pod for pod in pods if _belongs(pod, job)), key=age_key)

    def read_log(self, pod: Object, *, follow: bool = False) -> Iterator[str]:
        position, retry = LogPosition(), Retry(self._notice)
        while True:
            try:
                is_last = not follow or self._has_ended(pod)  # decided first: what follows reads to the end
                position.connect()
                for line in self._log_lines(pod, since=position.since, follow=not is_last):
                    retry.succeeded()
                    if not is_last and not line.endswith("\n"):
                        break  # the connection ended within the line, which is read again
                    text = position.new_text(line.removesuffix("\n"))
                    if text is not None:
                        yield text
                if is_last:
                    return
                retry.succeeded()  # also if there was no new line
            except ClusterUnreachableError as error:
                if not follow:
                    raise
                retry.wait(error)
            else:
                time.sleep(RECONNECT_SECONDS)

    def read_request(self, job: Object) -> Request | None:
        name = job["metadata"]["name"]
        with self._explained(f"the request of FineTuneJob {name} cannot be read"):
            found = self._cluster.get(self._key("ConfigMap", request_name(name, uid_of(job))))
        return parse_request(job, found)

    def read_report(self, job: Object) -> bytes:
        page = self._read_file(job, REPORT)
        return with_status(page, job["metadata"]["name"], status_of(job)).encode()

    def read_review_sample(self, job: Object) -> str:
        return self._read_file(job, REVIEW_SAMPLE)

    def read_config_map(self, name: str) -> Object | None:
        with self._explained(f"ConfigMap {name} cannot be read"):
            return self._cluster.get(self._key("ConfigMap", name))

    def read_score_maps(self, job: str) -> list[Object]:
        with self._explained(f"the scores for FineTuneJob {job} cannot be listed"):
            listed = self._cluster.list_objects("ConfigMap", self.namespace, f"{REVIEW_LABEL}={job}")
            keys = sorted(map(Key.of, listed), key=lambda key: key.name)[:MAX_SCORE_MAPS]
            return [found for key in keys if (found := self._cluster.get(key))]

    def put_config_map(self, config_map: Object) -> None:
        """Create a ConfigMap of a user in the namespace, or replace its content. Raises ClientError."""
        name = config_map["metadata"]["name"]
        placed = config_map | {"metadata": config_map["metadata"] | {"namespace": self.namespace}}
        with self._explained(f"ConfigMap {name} was not written"):
            apply(self._cluster, placed, self._cluster.get(Key.of(placed)))

    def decide(self, name: str, annotation: str, reason: str) -> None:
        """Record a decision about the current stop of a job: the annotation CONTINUE_ANNOTATION or
        DISCARD_ANNOTATION with a reason. The operator carries it out. Raises ClientError."""
        status = self.get("FineTuneJob", name).get("status", {})
        stop = status.get("stop")
        if stop is None or "completionTime" in status:
            raise ClientError(
                f"FineTuneJob {name} in {self.place} is not stopped by a gate: there is nothing to decide"
            )
        with self._explained(f"the decision about FineTuneJob {name} was not recorded"):
            value = stop_decision(stop["id"], reason)
            self._cluster.patch(
                self._key("FineTuneJob", name), {"metadata": {"annotations": {annotation: value}}}
            )

    def decide_verdict(self, name: str, action: str, reason: str) -> None:
        """Record a decision about the final verdict of a job: approve, override or reject. The operator
        carries it out. Raises ClientError."""
        digest = verdict_to_decide(self.get("FineTuneJob", name), action, self.place)
        with self._explained(f"the decision about FineTuneJob {name} was not recorded"):
            value = verdict_decision(digest, self._cluster.user_name(), reason)
            self._cluster.patch(
                self._key("FineTuneJob", name),
                {"metadata": {"annotations": {VERDICT_ANNOTATIONS[action]: value}}},
            )

    def set_suspended(self, name: str, suspend: bool) -> Object:
        """Set ``spec.suspend`` of a job that has not ended. Returns the job. Raises ClientError."""
        job = self.get("FineTuneJob", name)
        if "completionTime" in job.get("status", {}):
            raise ClientError(
                f"FineTuneJob {name} in {self.place} has ended in phase {job['status'].get('phase')}: it can "
                "neither be suspended nor resumed"
            )
        verb = "suspended" if suspend else "resumed"
        with self._explained(f"FineTuneJob {name} was not {verb}"):
            return self._cluster.patch(self._key("FineTuneJob", name), {"spec": {"suspend": suspend}})

    def _read_file(self, job: Object, file: VolumeFile) -> str:
        with self._explained(f"the {file.name} of FineTuneJob {job['metadata']['name']} cannot be read"):
            return read_file(self._cluster, job, file, self._notice)

    def _key(self, kind: str, name: str) -> Key:
        return Key(kind, self.namespace, name)

    def _find(self, kind: Kind, name: str) -> Object | None:
        with self._explained(f"{kind} {name} cannot be read"):
            return self._cluster.get(self._key(kind, name))

    def _changes(self, kind: Kind, obj: Object) -> Iterator[Any]:
        """Yield the watch events about an object after its version, until the server ends the watch."""
        metadata = obj["metadata"]
        events = self._cluster.watch_from(
            kind, self.namespace, metadata["resourceVersion"], WATCH_SECONDS, metadata["name"]
        )
        return (event for event in events if event["type"] != "BOOKMARK")

    def _log_lines(self, pod: Object, *, since: str, follow: bool) -> Iterator[str]:
        """Yield the lines of a pod's log from a time on, each with its time. With ``follow``, end if no line
        arrives for a while. Yields nothing if the pod no longer exists."""
        name = pod["metadata"]["name"]
        query = {"container": CONTAINER, "timestamps": "true", "sinceTime": since}
        query |= {"follow": "true"} if follow else {}
        with self._explained(f"the log of pod {name} cannot be read"):
            try:
                for line in self._cluster.read_log(Key.of(pod), query, SILENT_SECONDS):
                    yield line.decode(errors="replace")
            except NotFoundError:
                return
            except SilentError:
                if not follow:
                    raise

    def _has_ended(self, pod: Object) -> bool:
        """Return whether a pod has ended or no longer exists."""
        with self._explained(f"pod {pod['metadata']['name']} cannot be read"):
            current = self._cluster.get(Key.of(pod))
        return current is None or uid_of(current) != uid_of(pod) or has_ended(current)

    @contextmanager
    def _explained(self, problem: str) -> Iterator[None]:
        """Raise the cluster's errors as ClientErrors that begin with ``problem``, such as "FineTuneJob orders
        cannot be read"."""
        try:
            yield
        except ReasonTooLongError as error:
            raise ClientError(f"{problem}: {error}") from error
        except _PERMANENT as error:
            raise ClientError(f"{problem}: {error} ({self.place}){_advice(error)}") from error
        except ClusterError as error:
            raise ClusterUnreachableError(f"{problem}: {_shortened(error)} ({self.place})") from error


def _advice(error: ClusterError) -> str:
    """Return what a person can do about an error that a retry does not fix; empty if nothing is known."""
    if isinstance(error, UnauthorizedError):
        return "; the login has expired or is not valid: log in to the cluster again"
    if isinstance(error, UnknownKindError):
        return "; Tunegate is not installed in this cluster: install it, or select another cluster"
    return ""


def _shortened(error: ClusterError) -> str:
    """Return the message of an error; if the cluster was not reached, only why, without the request."""
    cause = error.__cause__
    if isinstance(cause, HTTPError):
        return f"the cluster is unreachable: {getattr(cause, 'reason', None) or cause}"
    return str(error)


def _belongs(pod: Object, job: Object) -> bool:
    """Return whether a pod belongs to this job, and not to an earlier job of the same name. The name of its
    Job ends in parts of the job's uid and the attempt, see :func:`attempt_name`."""
    owner, attempt = controlling_owner(pod), pod["metadata"]["labels"].get(ATTEMPT_LABEL)
    return owner is not None and owner.key.name.endswith(f"-{uid_of(job)[:5]}-{attempt}")
