"""Attempts of a step: start the first, watch the running one, retry what got further, record what ended."""

from datetime import datetime

from tunegate_api.contract import Results, Role, Subject
from tunegate_api.meta import MAX_MESSAGE
from tunegate_api.v1alpha1.finetunejob_status import MAX_ATTEMPTS, Attempt, Phase, Reason
from tunegate_operator.engine.controller import Create, Delete
from tunegate_operator.finetunejob.build import Step, child_job
from tunegate_operator.finetunejob.failures import (
    can_go_on,
    classify,
    has_invalid_image,
    invalid_image,
    out_of_memory,
)
from tunegate_operator.finetunejob.observe import Child, ChildState
from tunegate_operator.finetunejob.run import Run
from tunegate_operator.finetunejob.waiting import PURPOSES, not_ending, not_started, refused, why_waiting

PHASES = {
    Role.DATA: Phase.VALIDATING,
    Role.TRAIN: Phase.TRAINING,
    Role.GATE: Phase.GATING,
    Role.PUBLISH: Phase.PUBLISHING,
}
WAITING_PHASES = PHASES | {Role.DATA: Phase.PENDING, Role.TRAIN: Phase.QUEUED}

SUCCEEDED, SUSPENDED = "Succeeded", "Suspended"
"""Results of attempts that are no failure."""


def start(run: Run, step: Step, args: tuple[str, ...] = ()) -> None:
    """Start the next attempt of a step."""
    number = 1 + max(
        [c.attempt for c in run.observed.children if c.step == step]
        + [a.number for a in run.draft.status.attempts if (a.role, a.stage) == (step.role, step.stage)],
        default=0,
    )
    child = child_job(run.observed.job, run.request, step, number, pods=run.pods, extra_args=args)
    run.draft.actions.append(Create(child))
    refusal, role = run.observed.refusal, step.role
    reason, message = refused(refusal, role) if refusal else not_started(role)
    run.draft.wait(WAITING_PHASES[role], reason, message, run.observed.job.spec.start_timeout_seconds)


def watch(run: Run, child: Child) -> None:
    """Say where a running child is, and end it where it can only fail again."""
    role, draft = child.step.role, run.draft
    if any(pod.oom_killed for pod in child.pods):
        stop_child(run, child, Reason.OUT_OF_MEMORY)
        draft.fail(out_of_memory(child))
        return
    if has_invalid_image(child):
        stop_child(run, child, Reason.IMAGE_PULL)
        draft.fail(invalid_image(child))
        return
    last = child.last_pod
    lost = not_ending(child, draft)
    if (child.is_running and not lost) or (last and last.phase == "Succeeded"):  # its Job will say so soon
        draft.set(start_time=draft.status.start_time or child.started or draft.now)
        draft.enter(PHASES[role], _doing(run, child.step))
        return
    phase = WAITING_PHASES[role]
    if lost:
        phase, (reason, message) = PHASES[role], lost
    elif last and last.phase == "Failed":
        phase, reason = PHASES[role], Reason.POD_NOT_STARTED
        message = f"restarting after: {classify(child).message}"
    else:
        reason, message = why_waiting(child, draft)
    draft.wait(phase, reason, message, run.observed.job.spec.start_timeout_seconds)


def after_failure(run: Run, child: Child) -> bool:
    """Whether another attempt follows a failed child. Where none does, the job has failed."""
    failure = classify(child)
    if child.failure_reason == "PodFailurePolicy":
        run.draft.fail(failure)
        return False
    before = [
        a for a in run.draft.status.attempts if a.stage == child.step.stage and a.number < child.attempt
    ]
    reached_before = max((a.last_step or 0 for a in before), default=0)
    added = last_step(run.results, child.step) > reached_before
    if can_go_on(child.step.role, added):
        return True
    why = " (no restart got further)"
    message = failure.message[-(MAX_MESSAGE - len(why)) :] + why  # of a log, the end says most
    run.draft.fail(failure.model_copy(update={"message": message}))
    return False


def stop_child(run: Run, child: Child, result: str) -> None:
    """End a running child and record it. Its process saves on SIGTERM."""
    run.draft.actions.append(Delete(child.key, child.uid))
    _record(run, child, result, run.draft.now)


def record_finished(run: Run) -> None:
    """Note each child that ended, once, with the time it ran."""
    for child in sorted(run.observed.children, key=lambda c: c.finished or run.draft.now):
        if child.state is ChildState.ACTIVE or child.finished is None:
            continue
        result = SUCCEEDED if child.state is ChildState.COMPLETE else classify(child).reason
        _record(run, child, result, child.finished)


def last_step(results: Results, step: Step) -> int:
    """The step of a stage's last evaluated checkpoint; 0 when there is none."""
    return max((e.step for e in results.find(Subject.CHECKPOINT, step.stage)), default=0)


def _record(run: Run, child: Child, result: str, finished: datetime) -> None:
    status, step = run.draft.status, child.step
    if any((a.role, a.stage, a.number) == (step.role, step.stage, child.attempt) for a in status.attempts):
        return
    seconds = child.running_seconds(finished)
    attempt = Attempt(
        role=step.role,
        stage=step.stage,
        number=child.attempt,
        started=child.started,
        finished=finished,
        result=result,
        last_step=last_step(run.results, step) if step.role is Role.TRAIN else None,
    )
    run.draft.set(
        attempts=[*status.attempts, attempt][-MAX_ATTEMPTS:],
        running_seconds=status.running_seconds + seconds,
        gpu_seconds=status.gpu_seconds + seconds * _gpus(run, step.role),
    )


def _gpus(run: Run, role: Role) -> int:
    asked = run.observed.job.spec.resources
    if asked.accelerator == "CPU" or role not in (Role.TRAIN, Role.GATE):
        return 0
    return asked.gpu.count if asked.gpu else 1


def _doing(run: Run, step: Step) -> str:
    report = run.observed.report_of(step)
    progress = report.progress if report else None
    if progress is None:
        return PURPOSES[step.role]
    if progress.activity:
        return progress.activity
    return f"training {progress.stage}: step {progress.step} of {progress.total_steps}"
