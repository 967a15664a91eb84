"""Manage the attempts of a step: start the first attempt, watch the active attempt, start the next attempt
if a failed attempt may be retried, and record the attempts that ended."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tunegate_api.v1alpha2.finetunejob_status import MAX_ATTEMPTS, Attempt, Failure
from tunegate_api.v1alpha2.reasons import Reason
from tunegate_operator.children.child_jobs import SUCCEEDED, ChildJobs, newest
from tunegate_operator.children.evictions import evicted_too_often
from tunegate_operator.children.failures import (
    classify,
    has_invalid_image,
    invalid_image,
    is_permanent,
    out_of_memory,
    without_progress,
)
from tunegate_operator.children.multi_pod import Restart, lost_to_eviction, restart
from tunegate_operator.children.observed import Child, ChildState
from tunegate_operator.children.waiting import (
    PURPOSES,
    must_await_pods,
    overdue_pod,
    refusal_reason,
    why_waiting,
)
from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.controller import Create, Delete
from tunegate_operator.names import Step

POD_SECONDS = 30
"""If a Job has no pod this many seconds after its creation, status shows that the Job waits for a pod. The
start timeout begins when status first shows this. It does not begin at the creation, because an old Job may
have lost its pod."""

Build = Callable[[int], Sequence[Object]]
"""A function that takes an attempt's number and builds the objects of this attempt: first the objects that
the Job needs, then the Job."""


@dataclass(frozen=True)
class Completed:
    """The latest attempt completed."""


@dataclass(frozen=True)
class Running:
    """The pods of an attempt are running."""

    child: Child


@dataclass(frozen=True)
class Starting:
    """The pods of an attempt should run soon. Nothing is known that prevents it."""

    since: datetime


@dataclass(frozen=True)
class Waiting:
    """The pods of an attempt do not run, for a reason that may be temporary."""

    reason: Reason
    message: str
    has_run: bool = False
    """Whether a pod of the attempt has run before."""


@dataclass(frozen=True)
class Ending:
    """An attempt failed, but the end of its pods is not observed yet. The end of the pods will show why the
    attempt failed."""


StepState = Completed | Running | Starting | Waiting | Restart | Ending | Failure
"""The state of a step. A Failure is final."""


def advance(jobs: ChildJobs, step: Step, build: Build, *, is_known: bool = False) -> StepState:
    """Advance a step: start its first attempt, watch the active one, or start another one after a failure.

    Return the state of the step. If the result of the step is recorded elsewhere (``is_known``), a step that
    succeeded stays completed even if its Job is removed.
    """
    latest = jobs.latest(step)
    if latest is None:
        return Completed() if is_known and jobs.has_succeeded(step) else start_attempt(jobs, step, build)
    if latest.state is ChildState.ACTIVE:
        return watch_attempt(jobs, latest)
    if latest.state is ChildState.COMPLETE:
        return Completed()
    return _after_failure(jobs, latest) or start_attempt(jobs, step, build)


def start_attempt(jobs: ChildJobs, step: Step, build: Build) -> StepState:
    """Start the next attempt of a step, and return its state: Waiting if the last creation was refused, else
    Starting."""
    jobs.agenda.actions += [Create(obj) for obj in build(1 + jobs.latest_number(step))]
    if jobs.refusal:
        return Waiting(*refusal_reason(jobs.refusal, step.role))
    return Starting(jobs.agenda.now)


def watch_attempt(jobs: ChildJobs, child: Child) -> StepState:
    """Return the state of an active child; a Failure if the child cannot succeed."""
    failure = _unrecoverable_failure(jobs, child)
    if failure:
        return failure
    last = child.decisive_pod
    lost = overdue_pod(child, jobs.agenda)
    # If the pod succeeded, the Job controller will soon update the Job.
    if (child.is_running and not lost) or (last and last.phase == "Succeeded"):
        return Running(child)
    if lost is None and last and last.phase == "Failed":
        lost = Reason.POD_NOT_STARTED, f"restarting after: {classify(child).message}"
    if lost:
        return Waiting(*lost, has_run=True)
    since, held_back = (last or child).created, why_waiting(child, jobs.agenda)
    if last is None and jobs.agenda.now >= since + timedelta(seconds=POD_SECONDS):
        purpose = PURPOSES[child.step.role]
        held_back = held_back or (Reason.POD_NOT_STARTED, f"waiting for a pod: {purpose}")
    return Waiting(*held_back) if held_back else Starting(since)


def _unrecoverable_failure(jobs: ChildJobs, child: Child) -> Failure | None:
    """Return why an active child cannot succeed; None if the child may still succeed."""
    if any(pod.oom_killed for pod in child.pods):
        return out_of_memory(child)
    if has_invalid_image(child):
        return invalid_image(child)
    # A multi-pod Job fails with the first pod that ends, whatever its exit code.
    if child.nodes > 1 and is_permanent(child):
        return classify(child)
    return evicted_too_often(jobs, child)


def _after_failure(jobs: ChildJobs, child: Child) -> StepState | None:
    """Return the state of a step whose latest attempt failed; None if the next attempt should start now."""
    if must_await_pods(child, jobs.agenda):
        return Ending()
    failure = classify(child)
    if is_permanent(child):
        return failure
    if child.nodes > 1:
        return restart(jobs, child)
    before = [a for a in jobs.ledger.attempts if a.stage == child.step.stage and a.number < child.attempt]
    reached_before = max((a.last_step or 0 for a in before), default=0)
    if child.step.role in jobs.resumable and jobs.last_checkpoint(child.step) > reached_before:
        return None
    return without_progress(failure)


def stop_all(jobs: ChildJobs, result: str) -> bool:
    """Delete the active Jobs, in two decisions. Return whether all of them are being deleted.

    A deleted Job soon disappears. So the first decision only records ``result`` and the running time, and the
    next decision, which follows at once, deletes the Jobs. Their training processes save a checkpoint on
    SIGTERM.
    """
    active = jobs.active
    unrecorded = [child for child in active if not jobs.is_recorded(child)]
    for child in unrecorded:
        _record(jobs, child, result, jobs.agenda.now)
    if unrecorded:
        jobs.agenda.look_again_at(jobs.agenda.now)
        return False
    jobs.agenda.actions += [Delete(child.key, child.uid) for child in active]
    return True


def end_attempt(jobs: ChildJobs, child: Child, result: str) -> None:
    """Record an active Job as ended. The next decision, which follows at once, deletes it with
    :func:`delete_recorded`, and then the next attempt starts."""
    _record(jobs, child, result, jobs.agenda.now)
    jobs.agenda.look_again_at(jobs.agenda.now)


def delete_recorded(jobs: ChildJobs) -> Child | None:
    """Delete active children that are recorded as ended. Such children exist after :func:`end_attempt`, and
    if a suspension recorded them, but ended before it deleted them. Return the first of these children; None
    if there is none."""
    left = [child for child in jobs.active if jobs.is_recorded(child)]
    jobs.agenda.actions += [Delete(child.key, child.uid) for child in left]
    return left[0] if left else None


def record_finished(jobs: ChildJobs) -> None:
    """Record each child that ended, with its result and running time. Each child is recorded once."""
    for child in sorted(jobs.children, key=lambda c: c.finished or jobs.agenda.now):
        if child.state is ChildState.ACTIVE or child.finished is None or must_await_pods(child, jobs.agenda):
            continue
        if child.state is ChildState.COMPLETE:
            result = SUCCEEDED
        else:
            result = Reason.EVICTED if lost_to_eviction(child, jobs.ledger) else classify(child).reason
        _record(jobs, child, result, child.finished)


def count_ended_pods(jobs: ChildJobs) -> None:
    """Add the running time of failed pods to the ledger while their Job continues, because an evicted pod is
    soon deleted.

    The pods of a Job run one after the other, so every pod created up to ``counted_until`` is already
    counted. Multi-pod Jobs are skipped, because such a Job does not continue after a pod has failed.
    """
    for child in jobs.children:
        if child.state is not ChildState.ACTIVE or child.nodes > 1 or jobs.is_recorded(child):
            continue
        for pod in child.pods:
            until = jobs.ledger.counted_until
            if pod.phase == "Failed" and (until is None or pod.created > until):
                _add_time(jobs, child.step, pod.running_seconds(jobs.agenda.now))
                jobs.ledger = replace(jobs.ledger, counted_until=pod.created)


def _record(jobs: ChildJobs, child: Child, result: str, finished: datetime) -> None:
    if jobs.is_recorded(child):
        return
    step = child.step
    _add_time(jobs, step, child.running_seconds(finished, jobs.ledger.counted_until))
    attempt = Attempt(
        role=step.role,
        stage=step.stage,
        number=child.attempt,
        started=child.started,
        finished=finished,
        result=result,
        last_step=jobs.last_checkpoint(step) if step.role in jobs.resumable else None,
    )
    recorded = newest([*jobs.ledger.attempts, attempt], MAX_ATTEMPTS, key=lambda one: (one.role, one.stage))
    jobs.ledger = replace(jobs.ledger, attempts=tuple(recorded), counted_until=None)


def _add_time(jobs: ChildJobs, step: Step, seconds: int) -> None:
    ledger = jobs.ledger
    jobs.ledger = replace(
        ledger,
        running_seconds=ledger.running_seconds + seconds,
        gpu_seconds=ledger.gpu_seconds + seconds * jobs.gpus(step),
    )
