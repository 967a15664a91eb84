"""After the end: a small pod tells trackers what the job's own pods could not.

A pod that ends gives each tracker a last try and says which are behind; the job's next pod sends what is
missing. After the last one nothing would follow. Nor does any pod know of an end that only the operator or a
person brought about: a deadline, a lack of memory, a discarded run.
"""

from datetime import datetime

from tunegate_api.contract import Outcome, Role
from tunegate_api.v1alpha1.finetunejob_status import Reason, TrackingStatus
from tunegate_operator.engine.controller import Create
from tunegate_operator.finetunejob.attempts import SUCCEEDED
from tunegate_operator.finetunejob.build import PodSettings, Step, child_job
from tunegate_operator.finetunejob.draft import Draft
from tunegate_operator.finetunejob.ended import all_left, has_written, is_for_good
from tunegate_operator.finetunejob.failures import classify
from tunegate_operator.finetunejob.observe import Child, ChildState, Observed

TRACK = Step(Role.TRACK)
_JUDGED = (
    Reason.NO_PASSING_CHECKPOINT,
    Reason.GATE_FAILED,
    Reason.GATE_INCONCLUSIVE,
    Reason.GATE_ERROR,
)
"""Failures that the pod knew of whose results they follow from."""


def note_trackers_behind(observed: Observed, draft: Draft) -> None:
    """As a job ends, note the trackers that do not know all of it."""
    tracking = observed.job.spec.tracking
    names = [name for name in ("mlflow", "wandb") if tracking and getattr(tracking, name)]
    last = _last_child(observed)
    if last is not None and _knew_the_end(last, draft):
        said = _said_behind(last)
        names = names if said is None else [name for name in names if name in said]
    if names and has_written(draft.status):
        draft.set(tracking=TrackingStatus(behind=names))


def _last_child(observed: Observed) -> Child | None:
    """The one that ended last of those that tell trackers."""
    ended = [c for c in observed.children if c.step.role.tells_trackers and c.finished is not None]
    return max(ended, key=lambda child: child.finished or child.created, default=None)


def _knew_the_end(child: Child, draft: Draft) -> bool:
    """Whether what ended the job is among what the child's pod told."""
    failure, pod = draft.status.failure, child.telling_pod
    if failure is None or failure.reason in _JUDGED:
        return True
    return pod is not None and pod.termination is not None and pod.termination.outcome is Outcome.FAILED


def _said_behind(child: Child) -> list[str] | None:
    """The trackers that were not told everything, as the pod of the child that tells them said; None if none
    did."""
    pods = child.pods if child.nodes > 1 else child.pods[-1:]
    said = [pod.termination.trackers_behind for pod in pods if pod.termination]
    return next((names for names in said if names is not None), None)


def tell_trackers(observed: Observed, draft: Draft, pods: PodSettings) -> bool:
    """See to it that a pod tells trackers the rest, once, and note how it ended. Whether that is over."""
    tracking, ended = draft.status.tracking, draft.status.completion_time or draft.now
    if tracking is None or tracking.result is not None:
        return True
    request, children = observed.request, observed.attempts_of(TRACK)
    if request is None:
        _note_failure(observed, draft, tracking, Reason.CONFIG_MAP_NOT_FOUND, "the job's request was removed")
    elif children:
        _note_end(observed, draft, tracking, children[-1])
    elif draft.now < all_left(observed, ended):
        draft.look_again_at(all_left(observed, ended))
    elif observed.refusal and is_for_good(observed.refusal, Role.TRACK, draft.now):
        _note_failure(observed, draft, tracking, Reason.REFUSED, observed.refusal.message)
    else:
        failure = draft.status.failure
        args = ("--failure", f"{failure.reason}: {failure.message}") if failure else ()
        draft.actions.append(Create(child_job(observed.job, request, TRACK, 1, pods=pods, extra_args=args)))
    return False


def _note_end(observed: Observed, draft: Draft, tracking: TrackingStatus, child: Child) -> None:
    if child.state is ChildState.COMPLETE:
        _note(draft, tracking, SUCCEEDED, f"told {' and '.join(tracking.behind)} the rest", child.finished)
    elif child.state is ChildState.FAILED and child.failure_reason == "DeadlineExceeded":
        seconds = round(((child.finished or draft.now) - child.created).total_seconds())
        why = f"tried for {seconds} s"  # with its deadline its pod is removed, and says no more
        _note_failure(observed, draft, tracking, Reason.DEADLINE_EXCEEDED, why)
    elif child.state is ChildState.FAILED:
        failure = classify(child)
        _note_failure(observed, draft, tracking, failure.reason, failure.message)


def _note(
    draft: Draft, tracking: TrackingStatus, result: str, message: str, time: datetime | None = None
) -> None:
    told = tracking.model_copy(update={"result": result, "message": message, "time": time or draft.now})
    draft.set(tracking=told)


def _note_failure(observed: Observed, draft: Draft, tracking: TrackingStatus, reason: str, why: str) -> None:
    uid, claim = observed.job.metadata.uid, observed.job.spec.storage.persistent_volume_claim
    names = " and ".join(tracking.behind)
    message = f"{names} may lack what is in the folder {uid} of the claim {claim}: {why}"
    _note(draft, tracking, reason, message)
