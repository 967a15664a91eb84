"""Remove the files of a job that is being deleted, if ``storage.onDelete`` of its spec is Delete.

A finalizer, which is added before the job's first pod, keeps the FineTuneJob until its pods have ended and a
cleanup Job has removed its files. No deletion waits forever: if the files cannot be removed, an Event names
their folder, and the finalizer is removed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import ValidationError

from tunegate_api.v1alpha2 import FineTuneJob
from tunegate_api.v1alpha2.reasons import Phase
from tunegate_operator.children.failures import classify
from tunegate_operator.children.job import PodSettings
from tunegate_operator.children.observed import Child, ChildState, observe_children
from tunegate_operator.children.waiting import must_await_pods, why_waiting
from tunegate_operator.engine.cluster import ForbiddenError, Key, Object
from tunegate_operator.engine.controller import (
    Action,
    AddFinalizer,
    Agenda,
    Create,
    Decision,
    Delete,
    Event,
    Refusal,
    View,
)
from tunegate_operator.engine.objects import is_being_deleted, moment
from tunegate_operator.finetunejob.build import DELETION_ATTEMPT, deletion_job
from tunegate_operator.finetunejob.observe import has_pods, steps_of
from tunegate_operator.finetunejob.ttl import CLEANUP, files_remain
from tunegate_operator.names import COLLECTOR_FINALIZERS, FILES_FINALIZER, nested

DEADLINE = timedelta(hours=1)
"""How long after the deletion of a job its finalizer is removed at the latest."""
START_TIMEOUT = timedelta(minutes=10)
"""How long the cleanup Job may be refused, or its pod may not start, before the operator gives up."""
POLL = timedelta(seconds=10)
"""Pause between two looks at the pods of a deleted job. After a restart of the operator, the end of a pod
whose Job was deleted before leads to no decision."""
WATCH_LAG = timedelta(seconds=10)
"""Pause before the files of a job that had not ended are removed. A watch may report a new pod later than
another watch reports the deletion of the pod's Job."""
_CLAIM_IS_GONE = r'persistentvolumeclaim "{}" (not found|is being deleted|bound to non-existent)'
"""Matches the message of the scheduler about a claim that no pod can mount any more."""


_FINAL = tuple(phase.value for phase in Phase if phase.is_final)


@dataclass(frozen=True)
class DeletedJob:
    """The complete input of a decision about a job that is being deleted."""

    job: FineTuneJob
    deleted: datetime
    has_ended: bool
    """Whether the job had ended before it was deleted."""
    is_namespace_deleted: bool
    is_awaiting_collector: bool
    """Whether the garbage collector is still deleting or releasing the job's children. It would delete a new
    child too."""
    children: tuple[Child, ...]
    has_pods: bool
    """Whether any pod of the job is still running or pending."""
    refusal: Refusal | None


@dataclass(frozen=True)
class Release:
    """The FineTuneJob may disappear."""

    problem: str = ""
    """Why files remain; empty if they were removed."""


def with_finalizer(actions: Sequence[Action], obj: Object, job: FineTuneJob) -> tuple[Action, ...]:
    """Return the actions of a decision, with the finalizer before the first Job of a job that needs it. Other
    jobs, and jobs that have no files yet, get no finalizer."""
    if job.spec.storage.on_delete != "Delete" or has_finalizer(obj):
        return tuple(actions)
    first = next((i for i, action in enumerate(actions) if _creates_job(action)), None)
    if first is None:
        return tuple(actions)
    return (*actions[:first], AddFinalizer(FILES_FINALIZER), *actions[first:])


def _creates_job(action: Action) -> bool:
    return isinstance(action, Create) and action.obj["kind"] == "Job"


def has_finalizer(obj: Object) -> bool:
    """Return whether the deletion of a job waits for the removal of its files."""
    return FILES_FINALIZER in (obj["metadata"].get("finalizers") or ())


def decide_deletion(obj: Object, view: View, now: datetime, pods: PodSettings) -> Decision:
    """Return the decision about a job that is being deleted and has the finalizer. Its status stays as it
    is."""
    agenda, status = Agenda(now), obj.get("status") or {}
    release = _release(obj, view, agenda, pods)
    if release is None:
        return Decision(status, tuple(agenda.actions), requeue_after=agenda.requeue_after)
    claim = nested(obj, "spec", "storage", "persistentVolumeClaim")
    message = files_remain(obj["metadata"]["uid"], str(claim), release.problem)
    warnings = (Event("Warning", "CleanupFailed", message),) if release.problem else ()
    return Decision(status, warnings=warnings, releases=FILES_FINALIZER)


def _release(obj: Object, view: View, agenda: Agenda, pods: PodSettings) -> Release | None:
    """Return whether the job may disappear; None if it must stay for now. The deadline is checked first, so
    that nothing that cannot be read holds the deletion."""
    deadline = moment(obj["metadata"]["deletionTimestamp"]) + DEADLINE
    if agenda.now >= deadline:
        return Release("they were not removed within an hour of the deletion of the FineTuneJob")
    agenda.look_again_at(deadline)
    try:
        job = FineTuneJob.model_validate(obj | {"status": {}})
    except ValidationError:
        return Release("this version of the operator does not understand the spec")
    if job.spec.storage.on_delete != "Delete":  # somebody else added the finalizer
        return Release()
    return remove_files(_observe(obj, job, view), agenda, pods)


def _observe(obj: Object, job: FineTuneJob, view: View) -> DeletedJob:
    """Read what the decision needs. The job's records are not read: they may be deleted or damaged."""
    meta = job.metadata
    children, _ = observe_children(obj, view, steps_of(job))
    return DeletedJob(
        job=job,
        deleted=moment(obj["metadata"]["deletionTimestamp"]),
        has_ended=(obj.get("status") or {}).get("phase") in _FINAL,
        is_namespace_deleted=_is_namespace_deleted(view, meta.namespace),
        is_awaiting_collector=any(f in COLLECTOR_FINALIZERS for f in obj["metadata"]["finalizers"]),
        children=children,
        has_pods=has_pods(meta.namespace, meta.name, view),
        refusal=view.refusal(meta.uid),
    )


def _is_namespace_deleted(view: View, namespace: str) -> bool:
    """Return whether a namespace is being deleted. If the operator may not read it, a refused Job shows it
    later."""
    try:
        found = view.read(Key("Namespace", namespace, namespace))
    except ForbiddenError:
        return False
    return found is not None and is_being_deleted(found)


def remove_files(deleted: DeletedJob, agenda: Agenda, pods: PodSettings) -> Release | None:
    """End the job's pods, then remove its files with a cleanup Job. Return whether the FineTuneJob may
    disappear; None if it must stay for now."""
    if deleted.is_namespace_deleted:
        return Release("the namespace is being deleted, so no pod can remove them")
    remaining = [child for child in deleted.children if not child.deleting]
    cleanup = next((c for c in remaining if (c.step, c.attempt) == (CLEANUP, DELETION_ATTEMPT)), None)
    if cleanup:
        return _result(deleted, cleanup, agenda)
    refusal = deleted.refusal
    if refusal and refusal.since >= deleted.deleted:
        if agenda.now >= refusal.since + START_TIMEOUT:
            return Release(f"the cluster refused a Job that removes them for ten minutes: {refusal.message}")
        agenda.look_again_at(refusal.since + START_TIMEOUT)
    if deleted.is_awaiting_collector:
        return None
    active = [child for child in deleted.children if child.state is ChildState.ACTIVE]
    is_too_early = not deleted.has_ended and agenda.now < deleted.deleted + WATCH_LAG
    if active or deleted.has_pods or is_too_early:
        agenda.actions += [Delete(child.key, child.uid) for child in active if not child.deleting]
        agenda.look_again_at(agenda.now + POLL)
    else:
        agenda.actions.append(Create(deletion_job(deleted.job, pods)))
    return None


def _result(deleted: DeletedJob, cleanup: Child, agenda: Agenda) -> Release | None:
    """Return whether the cleanup Job has ended or will not start; None if it may still remove the files."""
    if cleanup.state is ChildState.COMPLETE:
        return Release()
    if cleanup.state is ChildState.FAILED:
        return None if must_await_pods(cleanup, agenda) else Release(classify(cleanup).message)
    if cleanup.started:
        return None
    claim = re.escape(deleted.job.spec.storage.persistent_volume_claim)
    for pod in cleanup.pods:  # not by an Event, which others can forge
        if re.search(_CLAIM_IS_GONE.format(claim), pod.unschedulable):
            return Release(f"{cleanup.step}: {pod.unschedulable}")
    why = why_waiting(cleanup, agenda)
    message = why[1] if why else "no reason is known"
    until = cleanup.created + START_TIMEOUT
    if agenda.now >= until:
        return Release(f"the pod that removes them did not start within ten minutes: {message}")
    agenda.look_again_at(until)
    return None
