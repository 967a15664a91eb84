"""Attempts of a step: start the first, watch the running one, retry what got further, record what ended."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tunegate_api.v1alpha1.finetunejob_status import MAX_ATTEMPTS, Attempt, Failure, Reason
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
from tunegate_operator.children.waiting import PURPOSES, end_is_due, not_ending, refused, why_waiting
from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.controller import Create, Delete
from tunegate_operator.names import Step

POD_SECONDS = 30
"""How old a Job may be that has no pod yet. One that is older may have lost its pod: the wait begins then."""

Build = Callable[[int], Sequence[Object]]
"""Builds what an attempt consists of, by its number: the Job, after what it needs."""


@dataclass(frozen=True)
class Completed:
    """The latest attempt completed."""


@dataclass(frozen=True)
class Running:
    """The pods of an attempt run."""

    child: Child


@dataclass(frozen=True)
class Starting:
    """A pod of an attempt should run soon: nothing is known to hold it back."""

    since: datetime


@dataclass(frozen=True)
class Waiting:
    """Something holds an attempt back, which may pass."""

    reason: Reason
    message: str
    has_run: bool = False
    """Whether a pod of the attempt ran already."""


@dataclass(frozen=True)
class Ending:
    """An attempt failed, and the end of its pods, which shows why, is not seen yet."""


Standing = Completed | Running | Starting | Waiting | Restart | Ending | Failure
"""How a step is doing. With a Failure it is over."""


def advance(jobs: ChildJobs, step: Step, build: Build, *, is_known: bool = False) -> Standing:
    """Do what is due about a step: start its first attempt, watch the running one, or retry.

    ``is_known`` says that what the step found is recorded elsewhere: then it is done though its Job was
    removed.
    """
    latest = jobs.latest(step)
    if latest is None:
        return Completed() if is_known and jobs.has_succeeded(step) else start_attempt(jobs, step, build)
    if latest.state is ChildState.ACTIVE:
        return watch_attempt(jobs, latest)
    if latest.state is ChildState.COMPLETE:
        return Completed()
    return _after_failure(jobs, latest) or start_attempt(jobs, step, build)


def start_attempt(jobs: ChildJobs, step: Step, build: Build) -> Standing:
    """Start the next attempt of a step."""
    jobs.agenda.actions += [Create(obj) for obj in build(1 + jobs.latest_number(step))]
    if jobs.refusal:
        return Waiting(*refused(jobs.refusal, step.role))
    return Starting(jobs.agenda.now)


def watch_attempt(jobs: ChildJobs, child: Child) -> Standing:
    """See how a running child is doing. What can only fail again is a Failure."""
    failure = _dead_end(jobs, child)
    if failure:
        return failure
    last = child.decisive_pod
    lost = not_ending(child, jobs.agenda)
    if (child.is_running and not lost) or (last and last.phase == "Succeeded"):  # its Job will notice soon
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


def _dead_end(jobs: ChildJobs, child: Child) -> Failure | None:
    """Why a running child cannot get anywhere."""
    if any(pod.oom_killed for pod in child.pods):
        return out_of_memory(child)
    if has_invalid_image(child):
        return invalid_image(child)
    if child.nodes > 1 and is_permanent(child):  # its Job fails by the pod that ends first
        return classify(child)
    return evicted_too_often(jobs, child)


def _after_failure(jobs: ChildJobs, child: Child) -> Standing | None:
    """How a step is doing whose latest attempt failed; None where another attempt follows now."""
    if end_is_due(child, jobs.agenda):
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
    """End whatever still runs or waits; each process saves on SIGTERM. Whether all were asked to end.

    What is deleted has soon left no trace. So it is recorded first, and deleted in the next decision, which
    follows at once: that this one ended it, and how long it ran, is then never forgotten.
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


def delete_recorded(jobs: ChildJobs) -> Child | None:
    """Delete what was recorded as ended and still runs, as after a suspension that was taken back at once.
    Returns the first such child."""
    left = [child for child in jobs.active if jobs.is_recorded(child)]
    jobs.agenda.actions += [Delete(child.key, child.uid) for child in left]
    return left[0] if left else None


def record_finished(jobs: ChildJobs) -> None:
    """Record each child that ended, once, with the time it ran."""
    for child in sorted(jobs.children, key=lambda c: c.finished or jobs.agenda.now):
        if child.state is ChildState.ACTIVE or child.finished is None or end_is_due(child, jobs.agenda):
            continue
        if child.state is ChildState.COMPLETE:
            result = SUCCEEDED
        else:
            result = Reason.EVICTED if lost_to_eviction(child, jobs.ledger) else classify(child).reason
        _record(jobs, child, result, child.finished)


def count_ended_pods(jobs: ChildJobs) -> None:
    """Add the time of pods that ended while their child goes on: a pod that was evicted is soon gone.

    Pods of a Job run one after the other, so those that are counted were created up to some moment.
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
