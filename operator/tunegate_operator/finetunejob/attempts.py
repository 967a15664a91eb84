"""Attempts of a step: start the first, watch the running one, retry what got further, record what ended."""

from datetime import datetime, timedelta

from tunegate_api.contract import Results, Role, Subject
from tunegate_api.v1alpha1 import FineTuneJob
from tunegate_api.v1alpha1.evaluation_status import BaselineDigest
from tunegate_api.v1alpha1.finetunejob_status import MAX_ATTEMPTS, Attempt, Failure, Phase, Reason
from tunegate_operator.engine.controller import Create, Delete
from tunegate_operator.finetunejob.bounded import newest
from tunegate_operator.finetunejob.build import Step, child_job, gpus_of_pod, node_count, nodes_service
from tunegate_operator.finetunejob.evictions import evicted_too_often
from tunegate_operator.finetunejob.failures import (
    can_go_on,
    classify,
    has_invalid_image,
    invalid_image,
    is_permanent,
    out_of_memory,
    without_progress,
)
from tunegate_operator.finetunejob.observe import Child, ChildState
from tunegate_operator.finetunejob.run import Run
from tunegate_operator.finetunejob.together import lost_to_eviction, may_begin_again
from tunegate_operator.finetunejob.waiting import PURPOSES, end_is_due, not_ending, refused, why_waiting

PHASES = {
    Role.DATA: Phase.VALIDATING,
    Role.TRAIN: Phase.TRAINING,
    Role.GATE: Phase.GATING,
    Role.PUBLISH: Phase.PUBLISHING,
}
"""Where a job is while a role runs. Sending a report is part of the phase that the report is about."""
WAITING_PHASES = {Role.DATA: Phase.PENDING, Role.TRAIN: Phase.QUEUED}
"""Where it is while the role's pod does not run yet, if that is another phase."""

POD_SECONDS = 30
"""How old a Job may be that has no pod yet. One that is older may have lost its pod: the wait begins then."""

SUCCEEDED, SUSPENDED = "Succeeded", "Suspended"
"""Results of attempts that are no failure."""


def start(run: Run, step: Step, args: tuple[str, ...] = ()) -> None:
    """Start the next attempt of a step."""
    number = 1 + latest_number(run, step)
    job, plan = run.observed.job, run.plan
    baselines = _recorded_baselines(run) if step.role in (Role.TRAIN, Role.GATE) else ()
    child = child_job(
        job, run.request, step, number, pods=run.pods, plan=plan, extra_args=args, baselines=baselines
    )
    if node_count(job, step.role) > 1:
        run.draft.actions.append(Create(nodes_service(job)))
    run.draft.actions.append(Create(child))
    held_back = refused(run.observed.refusal, step.role) if run.observed.refusal else None
    _await_pod(run, step.role, run.draft.now, held_back)


def _recorded_baselines(run: Run) -> tuple[BaselineDigest, ...]:
    """The cached baselines that pods may use: of this job, and of earlier ones with its gates. They come
    from status, which only the operator writes."""
    gates = [gate for gate in run.observed.gates.values() if gate is not None]
    earlier = (baseline for gate in gates for baseline in gate.status.baselines)
    return (*run.draft.status.baselines, *earlier)


def latest_number(run: Run, step: Step) -> int:
    """The number of the latest attempt of a step, its Job removed or not; 0 before the first."""
    seen = [c.attempt for c in run.observed.children if c.step == step]
    return max([*seen, *(a.number for a in _recorded(run, step))], default=0)


def latest(run: Run, step: Step) -> Child | None:
    """The Job of the latest attempt; None if it was removed, as by a suspension, or if there was none."""
    number = latest_number(run, step)
    return next((child for child in run.observed.attempts_of(step) if child.attempt == number), None)


def has_succeeded(run: Run, step: Step) -> bool:
    """Whether the status says that the latest attempt of a step completed."""
    latest = _latest_recorded(run, step)
    return latest is not None and latest.result == SUCCEEDED


def finished(run: Run, step: Step) -> datetime | None:
    """When the latest attempt of a step ended, its Job removed or not."""
    child, recorded = latest(run, step), _latest_recorded(run, step)
    if child:
        return child.finished
    return recorded.finished if recorded else None


def _latest_recorded(run: Run, step: Step) -> Attempt | None:
    return max(_recorded(run, step), key=lambda attempt: attempt.number, default=None)


def _recorded(run: Run, step: Step) -> list[Attempt]:
    return [a for a in run.draft.status.attempts if (a.role, a.stage) == (step.role, step.stage)]


def watch(run: Run, child: Child) -> None:
    """Say where a running child is, and end it where it can only fail again."""
    role, draft = child.step.role, run.draft
    failure = _dead_end(run, child)
    if failure:
        draft.fail(failure)
        return
    last = child.telling_pod
    lost = not_ending(child, draft)
    if (child.is_running and not lost) or (last and last.phase == "Succeeded"):  # its Job will say so soon
        draft.set(start_time=draft.status.start_time or child.started or draft.now)
        draft.enter(_phase(run, role), _doing(run, child.step))
        return
    if lost is None and last and last.phase == "Failed":
        lost = Reason.POD_NOT_STARTED, f"restarting after: {classify(child).message}"
    if lost:
        draft.wait(_phase(run, role), *lost, run.observed.job.spec.start_timeout_seconds)
        return
    since, held_back = (last or child).created, why_waiting(child, draft)
    if last is None and draft.now >= since + timedelta(seconds=POD_SECONDS):
        held_back = held_back or (Reason.POD_NOT_STARTED, f"waiting for a pod: {PURPOSES[role]}")
    _await_pod(run, role, since, held_back)


def _await_pod(run: Run, role: Role, since: datetime, held_back: tuple[Reason, str] | None) -> None:
    """Wait for a child's pod to run, and say so where that is news: each change costs a write."""
    draft, timeout = run.draft, run.observed.job.spec.start_timeout_seconds
    phase = WAITING_PHASES.get(role) or _phase(run, role)
    if held_back:
        draft.wait(phase, *held_back, timeout)
    elif role not in WAITING_PHASES:
        draft.expect(phase, PURPOSES[role], since, timeout)
    else:
        draft.wait(phase, Reason.POD_NOT_STARTED, f"waiting for a pod: {PURPOSES[role]}", timeout)


def _phase(run: Run, role: Role) -> Phase:
    return PHASES.get(role) or run.draft.status.phase or Phase.PENDING


def _dead_end(run: Run, child: Child) -> Failure | None:
    """Why a running child cannot get anywhere."""
    if any(pod.oom_killed for pod in child.pods):
        return out_of_memory(child)
    if has_invalid_image(child):
        return invalid_image(child)
    if child.nodes > 1 and is_permanent(
        child
    ):  # the Job fails by the pod that ended first, which may know less
        return classify(child)
    return evicted_too_often(child, last_step(run.results, child.step), run.draft)


def after_failure(run: Run, child: Child) -> bool:
    """Whether another attempt follows a failed child now. Where none does, the job has failed, or waits for
    what it needs to decide."""
    if end_is_due(child, run.draft):
        return False
    failure = classify(child)
    if is_permanent(child):
        run.draft.fail(failure)
        return False
    if child.nodes > 1:
        return may_begin_again(child, last_step(run.results, child.step), run.draft)
    before = [
        a for a in run.draft.status.attempts if a.stage == child.step.stage and a.number < child.attempt
    ]
    reached_before = max((a.last_step or 0 for a in before), default=0)
    added = last_step(run.results, child.step) > reached_before
    if can_go_on(child.step.role, added):
        return True
    run.draft.fail(without_progress(failure))
    return False


def stop_all(run: Run, result: str) -> bool:
    """End whatever still runs or waits; each process saves on SIGTERM. Whether all was told to end.

    What is deleted has soon left no trace. So it is recorded first, and deleted in the next decision, which
    follows at once: that this one ended it, and how long it ran, is then never forgotten.
    """
    active = _active(run)
    unrecorded = [child for child in active if not is_recorded(run, child)]
    for child in unrecorded:
        _record(run, child, result, run.draft.now)
    if unrecorded:
        run.draft.look_again_at(run.draft.now)
        return False
    run.draft.actions += [Delete(child.key, child.uid) for child in active]
    return True


def delete_recorded(run: Run) -> bool:
    """Delete what was recorded as ended and still runs, as after a suspension that was taken back at once.
    Whether there is such a child."""
    left = [child for child in _active(run) if is_recorded(run, child)]
    run.draft.actions += [Delete(child.key, child.uid) for child in left]
    if left:
        message = f"{left[0].step}: ending attempt {left[0].attempt}, which was suspended"
        _await_pod(run, left[0].step.role, run.draft.now, (Reason.POD_NOT_STARTED, message))
    return bool(left)


def _active(run: Run) -> list[Child]:
    """The children that nobody told to end yet."""
    return [c for c in run.observed.children if c.state is ChildState.ACTIVE and not c.deleting]


def record_finished(run: Run) -> None:
    """Note each child that ended, once, with the time it ran."""
    for child in sorted(run.observed.children, key=lambda c: c.finished or run.draft.now):
        if child.state is ChildState.ACTIVE or child.finished is None or end_is_due(child, run.draft):
            continue
        if child.state is ChildState.COMPLETE:
            result = SUCCEEDED
        else:
            result = Reason.EVICTED if lost_to_eviction(child, run.draft) else classify(child).reason
        _record(run, child, result, child.finished)


def count_ended_pods(run: Run) -> None:
    """Add the time of pods that ended while their child goes on: who was evicted is soon gone.

    Pods of a job run one after the other, so those that are counted were created up to some moment.
    """
    for child in run.observed.children:
        if child.state is not ChildState.ACTIVE or child.nodes > 1 or is_recorded(run, child):
            continue
        for pod in child.pods:
            until = run.draft.status.counted_until
            if pod.phase == "Failed" and (until is None or pod.created > until):
                _add_time(run, child.step.role, pod.running_seconds(run.draft.now))
                run.draft.set(counted_until=pod.created)


def last_step(results: Results, step: Step) -> int:
    """The step of a stage's last evaluated checkpoint; 0 when there is none."""
    return max((e.step for e in results.find(Subject.CHECKPOINT, step.stage)), default=0)


def is_recorded(run: Run, child: Child) -> bool:
    """Whether the status has this attempt, or had it: it ended, or was ended. They are recorded in order."""
    return any(attempt.number >= child.attempt for attempt in _recorded(run, child.step))


def _record(run: Run, child: Child, result: str, finished: datetime) -> None:
    if is_recorded(run, child):
        return
    status, step = run.draft.status, child.step
    _add_time(run, step.role, child.running_seconds(finished, status.counted_until))
    attempt = Attempt(
        role=step.role,
        stage=step.stage,
        number=child.attempt,
        started=child.started,
        finished=finished,
        result=result,
        last_step=last_step(run.results, step) if step.role is Role.TRAIN else None,
    )
    recorded = newest([*status.attempts, attempt], MAX_ATTEMPTS, key=lambda one: (one.role, one.stage))
    run.draft.set(attempts=recorded, counted_until=None)


def _add_time(run: Run, role: Role, seconds: int) -> None:
    status, job = run.draft.status, run.observed.job
    run.draft.set(
        running_seconds=status.running_seconds + seconds,
        gpu_seconds=status.gpu_seconds + seconds * gpus(job, role),
    )


def gpus(job: FineTuneJob, role: Role) -> int:
    """How many GPUs all pods of a role hold."""
    return gpus_of_pod(job, role) * node_count(job, role)


def _doing(run: Run, step: Step) -> str:
    report = run.observed.report_of(step)
    progress = report.progress if report else None
    if progress is None:
        return PURPOSES[step.role]
    if progress.activity:
        return progress.activity
    return f"training {progress.stage}: step {progress.step} of {progress.total_steps}"
