"""After the end: a small pod tells trackers what the job's own pods could not.

A pod that ends gives each tracker a last try and says which are behind; the job's next pod sends what is
missing. After the last one nothing would follow. Nor does any pod know of an end that only the operator or a
person brought about: a deadline, a lack of memory, a discarded run.

A pod tries for some minutes, and others follow after growing pauses: none holds a volume and a node for long.
"""

from datetime import datetime, timedelta

from tunegate_api.contract import Outcome, Role
from tunegate_api.v1alpha1.finetunejob_status import Failure, Reason, TrackingStatus
from tunegate_operator.engine.controller import Create, Delete
from tunegate_operator.finetunejob.attempts import SUCCEEDED
from tunegate_operator.finetunejob.build import PodSettings, Step, child_job
from tunegate_operator.finetunejob.draft import Draft
from tunegate_operator.finetunejob.ended import all_left, has_written, is_for_good
from tunegate_operator.finetunejob.failures import classify
from tunegate_operator.finetunejob.observe import Child, ChildState, Observed

TRACK = Step(Role.TRACK)
PATIENCE = timedelta(days=1)
"""How long after the end trackers are tried."""
FIRST_PAUSE, LONGEST_PAUSE = timedelta(minutes=5), timedelta(hours=2)
"""Between two pods: doubling from the first to the longest."""
LOOK_SECONDS = 5
"""How soon to look whether the job's pods have left."""
_JUDGED = {
    Role.TRAIN: (Reason.NO_PASSING_CHECKPOINT,),
    Role.GATE: (Reason.GATE_FAILED, Reason.GATE_INCONCLUSIVE, Reason.GATE_ERROR),
}
"""Failures that follow from what the pods of a role measured, who know of them therefore."""


def note_trackers_behind(observed: Observed, draft: Draft) -> None:
    """As a job ends, note the trackers that do not know all of it."""
    tracking = observed.job.spec.tracking
    names = [name for name in ("mlflow", "wandb") if tracking and getattr(tracking, name)]
    telling = [child for child in observed.children if child.step.role.tells_trackers]
    last = max(telling, key=lambda child: (child.created, child.attempt), default=None)
    said = _said_behind(last, draft.status.failure) if last else None
    behind = names if said is None else [name for name in names if name in said]
    if behind and has_written(draft.status):
        draft.set(tracking=TrackingStatus(behind=behind))


def _said_behind(child: Child, failure: Failure | None) -> list[str] | None:
    """The trackers that were not told everything, as the child's pod said that tells them; None where it did
    not say so, or could not know how the job ended."""
    pods = child.pods if child.nodes > 1 else child.pods[-1:]
    said = [pod.termination for pod in pods if pod.termination]
    told = next((one for one in said if one.trackers_behind is not None), None)
    if child.finished is None or told is None:
        return None
    judged = _JUDGED.get(child.step.role, ())
    if failure is None or failure.reason in judged or told.outcome is Outcome.FAILED:
        return told.trackers_behind
    return None


def tell_trackers(observed: Observed, draft: Draft, pods: PodSettings) -> bool:
    """See to it that pods tell trackers the rest, and note how that ended. Whether it is over."""
    tracking, ended = draft.status.tracking, draft.status.completion_time or draft.now
    if tracking is None or tracking.result is not None:
        return True
    last = next(reversed(observed.attempts_of(TRACK)), None)
    until = ended if pods.on_one_machine else ended + PATIENCE  # a person runs the command again
    if observed.request is None:
        _give_up(observed, draft, tracking, Reason.CONFIG_MAP_NOT_FOUND, "the job's request was removed")
    elif last is None:
        # Not beside a pod that may still say that the job goes on. Of one on a lost node nobody says it left.
        due = all_left(observed, ended) if observed.has_pods else ended
        _start(observed, draft, tracking, pods, due=due)
    elif last.state is ChildState.COMPLETE:
        _note(draft, tracking, SUCCEEDED, f"told {' and '.join(tracking.behind)} the rest")
    elif last.state is ChildState.FAILED:
        pause = min(FIRST_PAUSE * 2 ** (last.attempt - 1), LONGEST_PAUSE)
        due = (last.finished or draft.now) + pause
        if due > until:
            _give_up(observed, draft, tracking, *_why(last))
        else:
            _start(observed, draft, tracking, pods, due=due, after=last)
    return False


def _start(
    observed: Observed,
    draft: Draft,
    tracking: TrackingStatus,
    pods: PodSettings,
    *,
    due: datetime,
    after: Child | None = None,
) -> None:
    """Start the next try once it is due, in place of the last one."""
    refusal, request, failure = observed.refusal, observed.request, draft.status.failure
    if draft.now < due:
        draft.look_again_at(due if after else min(due, draft.now + timedelta(seconds=LOOK_SECONDS)))
    elif refusal and is_for_good(refusal, PATIENCE, draft.now):
        _give_up(observed, draft, tracking, Reason.REFUSED, refusal.message)
    elif request is not None:
        args = ("--failure", _argument(failure, pods)) if failure else ()
        number = after.attempt + 1 if after else 1
        job = child_job(observed.job, request, TRACK, number, pods=pods, extra_args=args)
        draft.actions.append(Create(job))
        if after:
            draft.actions.append(Delete(after.key, after.uid))


def _argument(failure: Failure, pods: PodSettings) -> str:
    """A failure as an argument of a container: the message may quote a log, and a kubelet puts the values of
    variables where it finds ``$(NAME)``."""
    text = "".join(c if c.isprintable() else " " for c in f"{failure.reason}: {failure.message}")
    return text if pods.on_one_machine else text.replace("$", "$$")


def _why(child: Child) -> tuple[str, str]:
    """Why a try failed. With its deadline its pod is removed, and says no more."""
    if child.failure_reason == "DeadlineExceeded":
        seconds = round(((child.finished or child.created) - child.created).total_seconds())
        return Reason.DEADLINE_EXCEEDED, f"attempt {child.attempt} was not done within {seconds} s"
    failure = classify(child)
    return failure.reason, failure.message


def _note(draft: Draft, tracking: TrackingStatus, result: str, message: str) -> None:
    draft.set(tracking=TrackingStatus(behind=tracking.behind, result=result, message=message, time=draft.now))


def _give_up(observed: Observed, draft: Draft, tracking: TrackingStatus, reason: str, why: str) -> None:
    uid, claim = observed.job.metadata.uid, observed.job.spec.storage.persistent_volume_claim
    names = " and ".join(tracking.behind)
    message = f"{names} may lack what is in the folder {uid} of the claim {claim}: {why}"
    _note(draft, tracking, reason, message)
