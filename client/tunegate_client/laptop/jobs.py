"""Decide the next status and pods of a Job, as Kubernetes' Job controller does. No I/O.

Supports Jobs with one pod at a time, and Indexed Jobs that run all pods at once. Differences from Kubernetes:
failed pods are retried after 1, 2, 4 … seconds instead of 10, 20, 40 …; a deleted pod is replaced without
counting as failed; and a pod is only replaced once it has terminated (``podReplacementPolicy: Failed``, which
the operator also sets on a real cluster).
"""

import random
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tunegate_api.backoff import backoff
from tunegate_operator.children.pod_status import exit_code, finished_at, is_terminal, phase
from tunegate_operator.engine.cluster import InvalidObjectError, Object
from tunegate_operator.engine.objects import (
    has_condition,
    is_being_deleted,
    is_finished,
    moment,
    timestamp,
    wire,
)
from tunegate_operator.engine.owners import controlling_owner, owner_reference

RETRY_SECONDS = 1.0
LONGEST_RETRY = 30.0
DEFAULT_BACKOFF_LIMIT = 6
JOB_NAME_LABELS = ("batch.kubernetes.io/job-name", "job-name")
INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
CONTROLLER_UID_LABELS = ("batch.kubernetes.io/controller-uid", "controller-uid")
OWNER_ANNOTATION = "local.tunegate.dev/owner-uid"
"""Pod annotation with the uid of the FineTuneJob, which is the controlling owner of the pod's Job. The uid is
the name of the job's folder, which contains the outbox. The annotation remains if the Job is deleted before
the pod."""
OWNER_NAME_ANNOTATION = "local.tunegate.dev/owner-name"
"""Pod annotation with the name of the FineTuneJob, which is the controlling owner of the pod's Job."""
_POD_NAME_LENGTH = 63
_SUFFIX_LENGTH = 5
_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # as in Kubernetes: no vowels, so no words


@dataclass(frozen=True)
class JobStep:
    """The new status of a Job, and the pods to create and delete."""

    status: Object
    starts: tuple[int, ...] = ()
    """Indexes of pods to create; 0 for the pod of a Job that is not Indexed."""
    stops: tuple[Object, ...] = ()
    """Pods to delete."""


def refuse_unsupported(job: Object) -> None:
    """Raise InvalidError for a Job with several pods, unless it is Indexed and runs all of them at once."""
    spec, name = job["spec"], job["metadata"]["name"]
    completions = spec.get("completions", 1)
    if spec.get("parallelism", 1) != completions:
        raise InvalidObjectError(
            f"Job {name}: without a cluster, spec.parallelism must equal spec.completions"
        )
    if completions > 1 and not _is_indexed(job):
        raise InvalidObjectError(
            f"Job {name}: without a cluster, spec.completions above 1 requires spec.completionMode: Indexed"
        )


def step_job(job: Object, pods: list[Object], now: datetime, retry_seconds: float = RETRY_SECONDS) -> JobStep:
    """Return the next status of a Job, and which pods to create and delete. ``pods`` are the Job's pods."""
    old: Object = job.get("status", {})
    if is_finished(job):
        return JobStep(old)
    active = tuple(p for p in pods if not is_terminal(p) and not is_being_deleted(p))
    terminating = [p for p in pods if not is_terminal(p) and is_being_deleted(p)]
    status = wire(old) | _counts(job, pods, len(active), len(terminating))

    if not _unfinished(job, pods):
        _set(
            status,
            "SuccessCriteriaMet",
            "CompletionsReached",
            "Reached expected number of succeeded pods",
            now,
        )
        _set(status, "Complete", "CompletionsReached", "Reached expected number of succeeded pods", now)
        status["completionTime"] = timestamp(now)
        return JobStep(status, stops=active)
    if job["spec"].get("suspend"):
        status.pop("startTime", None)
        _set(status, "Suspended", "JobSuspended", "Job suspended", now)
        return JobStep(status, stops=active)
    if has_condition(job, "Suspended"):
        _set(status, "Suspended", "JobResumed", "Job resumed", now, holds=False)
    status.setdefault("startTime", timestamp(now))

    failure = _failure(job, pods, status, now)
    if failure:
        _set(status, "FailureTarget", *failure, now)
        if not active and not terminating:
            _set(status, "Failed", *failure, now)
        return JobStep(status, stops=active)
    starts = missing_indexes(job, pods) if _retry_is_due(job, pods, now, retry_seconds) else ()
    return JobStep(status, starts=starts)


def missing_indexes(job: Object, pods: list[Object]) -> tuple[int, ...]:
    """Return the completion indexes for which no pod has succeeded, is running or is pending."""
    there = {index_of(pod) for pod in pods if not is_terminal(pod)}
    return tuple(index for index in _unfinished(job, pods) if index not in there)


def index_of(pod: Object) -> int:
    """Return the completion index of a pod; 0 if its Job is not Indexed."""
    return int(pod["metadata"].get("labels", {}).get(INDEX_LABEL, "0"))


def _unfinished(job: Object, pods: list[Object]) -> list[int]:
    done = {index_of(pod) for pod in pods if phase(pod) == "Succeeded"}
    return [index for index in range(job["spec"].get("completions", 1)) if index not in done]


def _is_indexed(job: Object) -> bool:
    return bool(job["spec"].get("completionMode") == "Indexed")


def new_pod(job: Object, index: int = 0) -> Object:
    """Build a pod of this Job, with a name and labels like those that Kubernetes' Job controller sets."""
    metadata, template, owner = job["metadata"], wire(job["spec"]["template"]), controlling_owner(job)
    ending = f"-{index}-" if _is_indexed(job) else "-"
    longest = _POD_NAME_LENGTH - _SUFFIX_LENGTH
    if _is_indexed(job):  # keep the index if the name is cut
        prefix = metadata["name"][: longest - len(ending)] + ending
    else:
        prefix = f"{metadata['name']}{ending}"[:longest]
    labels = dict.fromkeys(JOB_NAME_LABELS, metadata["name"]) | dict.fromkeys(
        CONTROLLER_UID_LABELS, metadata["uid"]
    )
    if _is_indexed(job):
        labels |= {INDEX_LABEL: str(index)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": prefix + "".join(random.choices(_SUFFIX_LETTERS, k=_SUFFIX_LENGTH)),
            "namespace": metadata["namespace"],
            "labels": {**template.get("metadata", {}).get("labels", {}), **labels},
            "annotations": {
                **template.get("metadata", {}).get("annotations", {}),
                **({OWNER_ANNOTATION: owner.uid, OWNER_NAME_ANNOTATION: owner.key.name} if owner else {}),
            },
            "ownerReferences": [owner_reference(job)],
        },
        "spec": {**template["spec"], "nodeName": "localhost"},
    }


def owner_name(obj: Object) -> str | None:
    """Return the name of the FineTuneJob to which a Job or pod belongs, or None if it belongs to none."""
    if obj["kind"] == "Pod":
        name: str | None = obj["metadata"].get("annotations", {}).get(OWNER_NAME_ANNOTATION)
        return name
    owner = controlling_owner(obj)
    return owner.key.name if owner else None


def _counts(job: Object, pods: list[Object], active: int, terminating: int) -> Object:
    return {
        "active": active,
        "ready": sum(has_condition(pod, "Ready") for pod in pods),
        "terminating": terminating,
        "succeeded": sum(phase(pod) == "Succeeded" for pod in pods),
        "failed": len(_counted_failures(job, pods)),
    }


def _counted_failures(job: Object, pods: list[Object]) -> list[Object]:
    failed = [pod for pod in pods if phase(pod) == "Failed"]
    return [pod for pod in failed if _action(job, pod)[0] != "Ignore"]


def _action(job: Object, pod: Object) -> tuple[str, int]:
    """Return the action and the index of the first podFailurePolicy rule that matches a failed pod.

    Returns ``("Count", -1)`` if no rule matches."""
    for index, rule in enumerate(job["spec"].get("podFailurePolicy", {}).get("rules", ())):
        if _matches(rule, pod):
            return rule["action"], index
    return "Count", -1


def _matches(rule: dict[str, Any], pod: Object) -> bool:
    codes = rule.get("onExitCodes")
    if codes:
        code = exit_code(pod) or 0
        return code != 0 and bool((code in codes["values"]) == (codes["operator"] == "In"))
    conditions = pod.get("status", {}).get("conditions", ())
    return any(
        c["type"] == wanted["type"] and c["status"] == wanted.get("status", "True")
        for wanted in rule.get("onPodConditions", ())
        for c in conditions
    )


def _failure(job: Object, pods: list[Object], status: Object, now: datetime) -> tuple[str, str] | None:
    """Return the reason and message of the Job's failure, in Kubernetes' words; None if it does not fail."""
    for condition in status.get("conditions", ()):
        if condition["type"] == "FailureTarget":
            return str(condition["reason"]), str(condition["message"])
    for pod in pods:
        action, index = _action(job, pod) if phase(pod) == "Failed" else ("", -1)
        if action == "FailJob":
            metadata, container = pod["metadata"], pod["spec"]["containers"][0]["name"]
            return "PodFailurePolicy", (
                f"Container {container} for pod {metadata['namespace']}/{metadata['name']} "
                f"failed with exit code {exit_code(pod)} matching FailJob rule at index {index}"
            )
    spec = job["spec"]
    if status["failed"] > spec.get("backoffLimit", DEFAULT_BACKOFF_LIMIT):
        return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    limit = spec.get("activeDeadlineSeconds")
    if limit is not None and (now - moment(status["startTime"])).total_seconds() >= limit:
        return "DeadlineExceeded", "Job was active longer than specified deadline"
    return None


def _retry_is_due(job: Object, pods: list[Object], now: datetime, retry_seconds: float) -> bool:
    failures = _counted_failures(job, pods)
    ends = [moment(end) for pod in failures if (end := finished_at(pod))]
    if not ends:
        return True
    pause = backoff(retry_seconds, LONGEST_RETRY, len(failures))
    return (now - max(ends)).total_seconds() >= pause


def _set(status: Object, type: str, reason: str, message: str, now: datetime, *, holds: bool = True) -> None:
    """Set a condition of a Job's status. If it has this value already, change nothing."""
    value = "True" if holds else "False"
    conditions = status.setdefault("conditions", [])
    for condition in conditions:
        if condition["type"] == type:
            if condition["status"] == value:
                return
            conditions.remove(condition)
            break
    time = timestamp(now)
    conditions.append(
        {
            "type": type,
            "status": value,
            "reason": reason,
            "message": message,
            "lastProbeTime": time,
            "lastTransitionTime": time,
        }
    )
