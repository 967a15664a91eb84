"""After the end of a job, send its experiment trackers the metrics that its own pods could not send.

Before a pod ends, it tries each tracker once more and reports which trackers are behind. The job's next pod
sends these trackers the remaining metrics. After the job's last pod, a small Job of role ``track`` does this.
The track pod also sends how the job ended if no earlier pod knew it: for example, the job exceeded its
deadline, ran out of memory, or was discarded, or a person overrode the verdict of a job without publish
targets.

Each track pod retries for some minutes, and the next one starts after a growing pause, so that no track pod
occupies a volume and a node for long.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from tunegate_api.backoff import backoff
from tunegate_api.contract.process import Outcome, Role
from tunegate_api.contract.workspace import Workspace
from tunegate_api.meta import cut
from tunegate_api.v1alpha2.finetunejob_status import Attempt, Failure, TrackingStatus
from tunegate_api.v1alpha2.reasons import Reason
from tunegate_operator.children.after_end import has_run, is_final_refusal
from tunegate_operator.children.child_jobs import SUCCEEDED
from tunegate_operator.children.failures import DEADLINE, classify
from tunegate_operator.children.job import PodSettings
from tunegate_operator.children.observed import Child, ChildState
from tunegate_operator.children.waiting import must_await_pods
from tunegate_operator.engine.controller import Create, Delete
from tunegate_operator.finetunejob.build import CHORE_SECONDS, child_job
from tunegate_operator.finetunejob.draft import Run
from tunegate_operator.names import Step

TRACK = Step(Role.TRACK)
RETRY_PERIOD = timedelta(days=1)
"""For this long after the end of a job, new track pods are started."""
TRY_TIMEOUT = timedelta(seconds=CHORE_SECONDS[Role.TRACK])
FIRST_PAUSE, LONGEST_PAUSE = timedelta(minutes=5), timedelta(hours=2)
"""Pauses between track pods. The pause doubles with each track pod, up to the longest."""
LOOK_SECONDS = 5
"""How often to check whether the job's own pods have ended."""
_JUDGED = {
    Role.TRAIN: (Reason.NO_CHECKPOINT_CAN_PASS, Reason.NO_PASSING_CHECKPOINT),
    Role.GATE: (Reason.GATE_FAILED, Reason.GATE_INCONCLUSIVE, Reason.GATE_ERROR),
}
"""For each role, the failure reasons of a job that a pod of this role knows before it ends, because its own
evaluations show them."""


def record_trackers_behind(run: Run) -> None:
    """When a job ends, record in status the trackers that have not received all metrics."""
    tracking = run.observed.job.spec.tracking
    names = [name for name in ("mlflow", "wandb") if tracking and getattr(tracking, name)]
    reported = _reported_behind(run)
    behind = names if reported is None else [name for name in names if name in reported]
    if behind and has_run(run.draft.status.start_time, run.draft.status.attempts):
        run.draft.set(tracking=TrackingStatus(behind=behind))


def _reported_behind(run: Run) -> list[str] | None:
    """Return the trackers that are behind, as reported by the last pod that sent metrics. Return None if the
    Job of this pod is gone, if the pod reported no list, or if the pod could not know how the job ended."""
    ended = [attempt for attempt in run.draft.status.attempts if Role(attempt.role).sends_metrics]
    over = (child for child in run.observed.children if child.state is not ChildState.ACTIVE)
    last = next((child for child in over if ended and _is_attempt(child, ended[-1])), None)
    if last is None:
        return None
    pods = last.pods if last.nodes > 1 else last.pods[-1:]
    ends = [pod.termination for pod in pods if pod.termination]
    reported = next((end for end in ends if end.trackers_behind is not None), None)
    failure = run.draft.status.failure
    if failure is None:
        decision = run.draft.status.verdict_decision
        is_overridden = decision is not None and decision.action == "override"
        judged = not is_overridden or last.step.role is Role.PUBLISH  # only this role gets the decision
    else:
        judged = failure.reason in _JUDGED.get(last.step.role, ())
    return reported.trackers_behind if reported and (judged or reported.outcome is Outcome.FAILED) else None


def _is_attempt(child: Child, attempt: Attempt) -> bool:
    return (child.step, child.attempt) == (Step(Role(attempt.role), attempt.stage), attempt.number)


def send_remaining_metrics(run: Run) -> bool:
    """Start pods that send the remaining metrics, and record the result in status. Return whether a result
    was already recorded or no tracker is behind."""
    draft = run.draft
    tracking, tries = draft.status.tracking, run.observed.attempts_of(TRACK)
    if tracking is None or tracking.result is not None:
        return True
    last = tries[-1] if tries else None
    is_new = last is not None and last.attempt > tracking.attempts
    if last and last.state is ChildState.FAILED and is_new and not must_await_pods(last, draft.agenda):
        tracking = tracking.model_copy(
            update={
                "attempts": last.attempt,
                "message": cut(f"attempt {last.attempt}: {_why(last)}"),
                "time": last.finished,
            }
        )
        draft.set(tracking=tracking)
    ended = draft.status.completion_time or draft.now
    until = ended if run.pods.on_one_machine else ended + RETRY_PERIOD  # a user can run the command again
    due = _due(run, tracking, ended)
    if last and last.state is ChildState.COMPLETE:
        _end(run, tracking, SUCCEEDED, f"sent the remaining metrics to {' and '.join(tracking.behind)}")
    elif last and last.attempt > tracking.attempts:
        if not run.pods.on_one_machine:
            _watch(run, tracking, last, until + TRY_TIMEOUT)
    elif tracking.attempts and max(due, draft.now) > until:
        _give_up(run, tracking, tracking.message)
    elif draft.now < due:
        draft.agenda.look_again_at(due if tries else min(due, draft.now + timedelta(seconds=LOOK_SECONDS)))
    else:
        _start(run, tracking, tries)
    return False


def _due(run: Run, tracking: TrackingStatus, ended: datetime) -> datetime:
    """Return the time at which the next track pod may start."""
    if tracking.attempts and tracking.time:
        return tracking.time + backoff(FIRST_PAUSE, LONGEST_PAUSE, tracking.attempts)
    # Not while a pod may still send trackers that the job is running. The end of a pod on a lost node may
    # never be observed.
    return run.observed.pods_gone_by(ended) if run.observed.has_pods else ended


def _watch(run: Run, tracking: TrackingStatus, child: Child, until: datetime) -> None:
    """Wait until the track pod of ``child`` ends. At the time ``until``, give up and delete its Job, because
    a pod on a lost node never ends."""
    if run.draft.now < until:
        run.draft.agenda.look_again_at(until)
    else:
        _give_up(run, tracking, tracking.message or "the pod that sends the metrics does not end")
        run.draft.agenda.actions.append(Delete(child.key, child.uid))


def _start(run: Run, tracking: TrackingStatus, tries: Sequence[Child]) -> None:
    """Start the next track pod, and delete the Jobs of earlier track pods. Record that metrics remain unsent
    if no pod can be created."""
    request, refusal, failure = run.observed.request, run.observed.refusal, run.draft.status.failure
    if request is None:
        _give_up(run, tracking, "the job's request was removed")
    elif refusal and is_final_refusal(refusal, RETRY_PERIOD, run.draft.now):
        _give_up(run, tracking, refusal.message)
    else:
        args: tuple[str, ...] = ("--trackers", ",".join(tracking.behind))
        args += ("--failure", _argument(failure, run.pods)) if failure else ()
        number = tracking.attempts + 1
        decision = run.draft.status.verdict_decision
        job = child_job(
            run.observed.job, request, TRACK, number, pods=run.pods, extra_args=args, decision=decision
        )
        run.draft.agenda.actions.append(Create(job))
        run.draft.agenda.actions += [Delete(child.key, child.uid) for child in tries]


def _argument(failure: Failure, pods: PodSettings) -> str:
    """Return a failure as an argument of a container. ``$`` is escaped, because the message may quote a log,
    and a kubelet replaces ``$(NAME)`` with the value of an environment variable."""
    text = "".join(c if c.isprintable() else " " for c in f"{failure.reason}: {failure.message}")
    return text if pods.on_one_machine else text.replace("$", "$$")


def _why(child: Child) -> str:
    """Return why a track pod failed. If its Job exceeded the deadline, the pod was deleted and has no
    message."""
    if child.failure_reason == DEADLINE:
        seconds = round(((child.finished or child.created) - child.created).total_seconds())
        return f"the pod did not finish within {seconds} s"
    return classify(child).message


def _end(run: Run, tracking: TrackingStatus, result: str, message: str) -> None:
    update = {"result": result, "message": cut(message), "time": run.draft.now}
    run.draft.set(tracking=tracking.model_copy(update=update))


def _give_up(run: Run, tracking: TrackingStatus, why: str) -> None:
    job, names = run.observed.job, " and ".join(tracking.behind)
    folder, claim = Workspace(job.metadata.uid).job, job.spec.storage.persistent_volume_claim
    message = f"{names} may lack metrics, which are in the folder {folder} on the claim {claim}: {why}"
    _end(run, tracking, Reason.TRACKER_BEHIND, message)
