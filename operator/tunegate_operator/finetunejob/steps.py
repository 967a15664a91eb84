"""Run the steps of a FineTuneJob as child Jobs, and show them in status."""

from collections.abc import Sequence
from datetime import datetime

from tunegate_api.contract.process import Role
from tunegate_api.v1alpha2.evaluation_status import BaselineDigest
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.children import attempts
from tunegate_operator.children.attempts import (
    Build,
    Completed,
    Ending,
    Running,
    Starting,
    StepState,
    Waiting,
)
from tunegate_operator.children.multi_pod import Restart
from tunegate_operator.children.observed import Child
from tunegate_operator.children.waiting import PURPOSES
from tunegate_operator.engine.cluster import Object
from tunegate_operator.finetunejob.build import child_job, node_count, nodes_service
from tunegate_operator.finetunejob.draft import Run
from tunegate_operator.finetunejob.dry_run_claims import are_left_out, end_without_claim
from tunegate_operator.names import Step

PHASES = {
    Role.DATA: Phase.VALIDATING,
    Role.TRAIN: Phase.TRAINING,
    Role.GATE: Phase.GATING,
    Role.PUBLISH: Phase.PUBLISHING,
}
"""The phase of a job while a pod of a role runs. The report role is missing, because its pod does not change
the phase."""
WAITING_PHASES = {Role.DATA: Phase.PENDING, Role.TRAIN: Phase.QUEUED}
"""The phase of a job while the pod of a role does not run yet. For a role without an entry, it is the phase
in PHASES."""


def ensure_completed(run: Run, step: Step, args: tuple[str, ...] = (), *, is_known: bool) -> bool:
    """Advance a step, show it in status, and return whether its latest attempt completed.

    If the result of the step is recorded (``is_known``), a step that succeeded stays completed even if its
    Job is removed.
    """
    state = attempts.advance(run.jobs, step, _build(run, step, args), is_known=is_known)
    end_without_claim(run, step, state)
    _show(run, step, state)
    return isinstance(state, Completed)


def start_next_attempt(run: Run, step: Step, args: tuple[str, ...] = ()) -> None:
    """Start the next attempt of a step, and show its state in status."""
    _show(run, step, attempts.start_attempt(run.jobs, step, _build(run, step, args)))


def watch(run: Run, child: Child) -> None:
    """Show the state of an active child in status. Fail the job if the child cannot succeed."""
    _show(run, child.step, attempts.watch_attempt(run.jobs, child))


def delete_ended(run: Run) -> bool:
    """Delete active children that are recorded as ended, such as by a suspension, and show this in status.
    Return whether there was such a child."""
    left = attempts.delete_recorded(run.jobs)
    if left:
        result = run.jobs.recorded(left.step)[-1].result
        message = f"{left.step}: ending attempt {left.attempt} ({result})"
        _show(run, left.step, Waiting(Reason.POD_NOT_STARTED, message))
    return left is not None


def _build(run: Run, step: Step, args: tuple[str, ...]) -> Build:
    """Return a function that takes an attempt's number and builds the objects of this attempt."""
    job = run.observed.job
    baselines = _recorded_baselines(run) if step.role in (Role.TRAIN, Role.GATE) else ()

    def build(number: int) -> Sequence[Object]:
        child = child_job(
            job,
            run.request,
            step,
            number,
            pods=run.pods,
            plan=run.plan,
            extra_args=args,
            baselines=baselines,
            decision=run.draft.status.verdict_decision if step.role is Role.PUBLISH else None,
            leave_out_claims=are_left_out(run),
        )
        return [nodes_service(job), child] if node_count(job, step.role) > 1 else [child]

    return build


def _recorded_baselines(run: Run) -> tuple[BaselineDigest, ...]:
    """Return the cached baselines that pods may use: those in the status of this job, and those of earlier
    jobs, which the status of each gate lists. They can be trusted: only the operator writes a status."""
    gates = [gate for gate in run.observed.gates.values() if gate is not None]
    earlier = (baseline for gate in gates for baseline in gate.status.baselines)
    return (*run.draft.status.baselines, *earlier)


def _show(run: Run, step: Step, state: StepState) -> None:
    """Show the state of a step in status. The states Completed and Ending change soon and are not shown,
    because each status change costs a write."""
    draft, role, timeout = run.draft, step.role, run.observed.job.spec.start_timeout_seconds
    phase = PHASES.get(role) or draft.status.phase or Phase.PENDING
    waiting_phase = WAITING_PHASES.get(role)
    match state:
        case Failure():
            draft.fail(state)
        case Running(child):
            draft.set(start_time=draft.status.start_time or child.started or draft.now)
            draft.enter(phase, _doing(run, step))
        case Restart(message):
            draft.enter(phase, message)
        case Waiting(reason, message, has_run):
            draft.wait(phase if has_run else waiting_phase or phase, reason, message, timeout)
        case Starting(since):
            _show_start(run, step, since, waiting_phase or phase)
        case Completed() | Ending():
            pass


def _show_start(run: Run, step: Step, since: datetime, phase: Phase) -> None:
    timeout, purpose = run.observed.job.spec.start_timeout_seconds, PURPOSES[step.role]
    if step.role in WAITING_PHASES:
        run.draft.wait(phase, Reason.POD_NOT_STARTED, f"waiting for a pod: {purpose}", timeout)
    else:
        run.draft.expect(phase, purpose, since, timeout)


def _doing(run: Run, step: Step) -> str:
    report = run.observed.report_of(step)
    progress = report.progress if report else None
    if progress is None:
        return PURPOSES[step.role]
    if progress.activity:
        return progress.activity
    return f"training {progress.stage}: step {progress.step} of {progress.total_steps}"
