"""Authenticate the senders of reports.

A TokenReview of the sender's token returns the pod; the cache contains the pod's Job and FineTuneJob.
"""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from tunegate_api import GROUP
from tunegate_api.contract.process import Role
from tunegate_api.contract.report import report_audience
from tunegate_api.validation.spec_size import TOO_LARGE
from tunegate_operator.engine.cache import Cache
from tunegate_operator.engine.clock import Clock
from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.expiring_cache import ExpiringCache
from tunegate_operator.engine.objects import is_being_deleted, uid_of
from tunegate_operator.engine.own_pods import pod_problem
from tunegate_operator.names import (
    ATTEMPT_LABEL,
    JOB_LABEL,
    MANAGED_LABELS,
    ROLE_LABEL,
    STAGE_LABEL,
    Step,
)
from tunegate_operator.reporting.steps import Sender

REMEMBERED_SECONDS = 300.0
"""How long an accepted token is accepted without another TokenReview, in seconds."""
REFUSED_SECONDS = 20.0
"""How long a refused token is refused without another TokenReview, in seconds."""
REMEMBERED_TOKENS = 4096
REMEMBERED_PODS = 4096

Review = Callable[[str, str], Object]
"""A function that returns the status of a TokenReview for a token and an audience."""
_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"
_SERVICE_ACCOUNT = "system:serviceaccount:"


class ForbiddenSenderError(Exception):
    """The sender may not send reports about this job."""


class UnknownPodError(Exception):
    """The token is valid, but the cache lacks the pod, its Job or the FineTuneJob's spec. Retry later."""


@dataclass(frozen=True)
class _Identity:
    """The pod that a token was issued for."""

    namespace: str
    pod_name: str
    pod_uid: str


class SenderAuthenticator:
    """Authenticates the senders of reports. Thread-safe."""

    def __init__(self, review: Review, cache: Cache, clock: Clock) -> None:
        self._review = review
        self._cache = cache
        self._lock = threading.Lock()
        self._reviewed = ExpiringCache[_Identity](REMEMBERED_TOKENS, REMEMBERED_SECONDS, clock)
        # A separate cache, so that a flood of bad tokens does not displace accepted ones.
        self._refused = ExpiringCache[str](REMEMBERED_TOKENS, REFUSED_SECONDS, clock)
        self._steps = ExpiringCache[tuple[str, Step, int]](REMEMBERED_PODS, float("inf"), clock)
        """FineTuneJob uid, step and attempt of each pod that was authenticated while its Job existed, by pod
        uid."""

    def is_known_job(self, uid: str) -> bool:
        """Return whether there is a FineTuneJob with this uid."""
        return self._job(uid) is not None

    def is_cached(self, token: str, job_uid: str) -> bool:
        """Return whether the result of the TokenReview for this token is cached."""
        key = _token_key(token, report_audience(job_uid))
        with self._lock:
            return self._reviewed.get(key) is not None or self._refused.get(key) is not None

    def authenticate(self, token: str, job_uid: str) -> Sender:
        """Return the sender, if the token has the audience of this job and belongs to one of the job's pods.

        Token, pod, Job and FineTuneJob must be in the same namespace. Otherwise a pod in another namespace
        could name the job as its owner, because anybody can copy a uid into an owner reference.

        Raises ForbiddenSenderError, UnknownPodError, or, if the TokenReview fails, ClusterError.
        """
        identity = self._identity(token, report_audience(job_uid))
        job = self._job(job_uid)
        if job is None:
            raise ForbiddenSenderError(f"there is no FineTuneJob with uid {job_uid}")
        pod = self._cache.by_uid(identity.pod_uid)
        if pod is None or pod["kind"] != "Pod":
            raise UnknownPodError(f"pod {identity.pod_uid} is not known yet")
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        if (identity.namespace, identity.pod_name) != (namespace, name):
            raise ForbiddenSenderError(
                "the pod name or namespace in the token is not that of the pod with its uid"
            )
        if namespace != job["metadata"]["namespace"]:
            raise ForbiddenSenderError(
                f"the token belongs to a pod in namespace {namespace}, but the job is in another namespace"
            )
        step, attempt = self._step(pod, job)
        return Sender(step, attempt, _stages(job), self._latest_attempts(job))

    def _step(self, pod: Object, job: Object) -> tuple[Step, int]:
        """Return the step and attempt of a pod, from the labels of its Job. Raises ForbiddenSenderError and
        UnknownPodError."""
        uid, child_uid = uid_of(pod), _controller(pod, "batch", "Job")
        if child_uid is None:
            raise ForbiddenSenderError("the token belongs to a pod that is not controlled by a Job")
        child = self._cache.by_uid(child_uid)
        if child is None:
            return self._step_without_job(pod, job)
        problem = _child_problem(child, pod, job)
        if problem:
            raise ForbiddenSenderError(problem)
        labels = child["metadata"]["labels"]
        try:
            step = Step(Role(labels[ROLE_LABEL]), labels.get(STAGE_LABEL))
            attempt = int(labels[ATTEMPT_LABEL])
        except (KeyError, ValueError) as error:
            raise ForbiddenSenderError("the labels of the pod's Job have no valid role or attempt") from error
        with self._lock:
            self._steps.put(uid, (uid_of(job), step, attempt))
        return step, attempt

    def _step_without_job(self, pod: Object, job: Object) -> tuple[Step, int]:
        """Return the step and attempt of a pod whose Job is not in the cache.

        When a FineTuneJob is suspended, its Job is deleted while the pod still saves a checkpoint and sends a
        report. Such a pod is accepted only if it was authenticated while its Job existed: anybody may create
        a pod that refers to a deleted Job. Raises ForbiddenSenderError and UnknownPodError.
        """
        with self._lock:
            known = self._steps.get(uid_of(pod))
        if known is None and len(self._cache.owners(pod)) > 1:
            raise ForbiddenSenderError("the Job of this pod was deleted before the pod sent its first report")
        if known and known[0] != uid_of(job):
            raise ForbiddenSenderError("the token belongs to a pod of another job")
        if known and is_being_deleted(pod):
            return known[1], known[2]
        raise UnknownPodError(f"the Job of pod {uid_of(pod)} is not known yet")

    def _job(self, uid: str) -> Object | None:
        found = self._cache.by_uid(uid)
        return found if found and found["kind"] == "FineTuneJob" else None

    def _latest_attempts(self, job: Object) -> dict[Step, int]:
        """Return the number of the latest attempt of each step, from the child Jobs and the status of a
        FineTuneJob."""
        labels = [child["metadata"].get("labels") or {} for child in self._cache.children(job, "Job")]
        found = [(each.get(ROLE_LABEL), each.get(STAGE_LABEL), each.get(ATTEMPT_LABEL)) for each in labels]
        recorded = (job.get("status") or {}).get("attempts") or ()
        found += [(each["role"], each.get("stage"), str(each["number"])) for each in recorded]
        latest: dict[Step, int] = {}
        for role, stage, attempt in found:
            if role in set(Role) and attempt and attempt.isdecimal():
                step = Step(Role(role), stage)
                latest[step] = max(latest.get(step, 0), int(attempt))
        return latest

    def _identity(self, token: str, audience: str) -> _Identity:
        """Return the pod that the token was issued for, from the cache or a TokenReview.

        Raises ForbiddenSenderError and ClusterError.
        """
        key = _token_key(token, audience)
        with self._lock:
            known, refusal = self._reviewed.get(key), self._refused.get(key)
        if refusal:
            raise ForbiddenSenderError(refusal)
        if known:
            return known
        status = self._review(token, audience)
        if not status.get("authenticated") or audience not in status.get("audiences", ()):
            self._refuse(key, "the token is not valid for reports on this job, or has expired")
        user = status.get("user", {})
        extra, username = user.get("extra", {}), user.get("username", "")
        uids, names = extra.get(_POD_UID, ()), extra.get(_POD_NAME, ())
        if len(uids) != 1 or len(names) != 1 or not username.startswith(_SERVICE_ACCOUNT):
            self._refuse(key, "the token is not bound to a pod")
        namespace = username.removeprefix(_SERVICE_ACCOUNT).partition(":")[0]
        identity = _Identity(namespace, names[0], uids[0])
        with self._lock:
            self._reviewed.put(key, identity)
        return identity

    def _refuse(self, key: str, message: str) -> NoReturn:
        with self._lock:
            self._refused.put(key, message)
        raise ForbiddenSenderError(message)


def _child_problem(child: Object, pod: Object, job: Object) -> str | None:
    """Return why ``pod``, whose controlling owner is the Job ``child``, is not a pod of the FineTuneJob
    ``job``; None if it is."""
    if child["kind"] != "Job" or child["metadata"]["namespace"] != job["metadata"]["namespace"]:
        return "the pod's Job is in another namespace"
    if _controller(child, GROUP, "FineTuneJob") != uid_of(job):
        return "the token belongs to a pod of another job"
    expected = MANAGED_LABELS | {JOB_LABEL: job["metadata"]["name"]}
    if not expected.items() <= (child["metadata"].get("labels") or {}).items():
        return "the pod's Job does not have the labels of the operator's Jobs"
    problem = pod_problem(pod, child)
    return f"the pod is not one of its Job: {problem}" if problem else None


def _controller(obj: Object, group: str, kind: str) -> str | None:
    """Return the uid of the controlling owner of ``obj``; None if no owner of this API group and kind
    controls ``obj``."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            is_it = reference["kind"] == kind and reference["apiVersion"].startswith(f"{group}/")
            return str(reference["uid"]) if is_it else None
    return None


def _stages(job: Object) -> tuple[str, ...]:
    """Return the names of the job's stages. Raises UnknownPodError if the spec is too large to be cached."""
    if job["spec"] == TOO_LARGE:
        raise UnknownPodError("the spec of the FineTuneJob is too large for the operator's cache")
    return tuple(stage["name"] for stage in job["spec"].get("stages") or ())


def _token_key(token: str, audience: str) -> str:
    return hashlib.sha256(f"{audience}\n{token}".encode()).hexdigest()
