"""Limit the total running time of a job's pods. Waiting in a queue or for a person is not running time."""

from datetime import timedelta

from tunegate_api.contract.process import Role
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.v1alpha2.reasons import Reason
from tunegate_operator.children.observed import ChildState
from tunegate_operator.finetunejob.draft import Run


def enforce_deadline(run: Run) -> None:
    """Fail the job if its pods have run for ``activeDeadlineSeconds`` and a pod is running or about to
    start."""
    observed, draft = run.observed, run.draft
    limit = observed.job.spec.active_deadline_seconds
    # A stopped child is recorded at once, but may remain in the cache for a while.
    active = [c for c in observed.children if c.state is ChildState.ACTIVE and not run.jobs.is_recorded(c)]
    ledger = run.jobs.ledger
    if limit is None or draft.status.failure or not (active or draft.starts_something):
        return
    used = ledger.running_seconds + sum(c.running_seconds(draft.now, ledger.counted_until) for c in active)
    if used < limit:
        if any(c.is_running for c in active):
            draft.agenda.look_again_at(draft.now + timedelta(seconds=limit - used))
        return
    hint = "Delete the job, and create it with a longer activeDeadlineSeconds: training starts over."
    if any(c.step.role is Role.PUBLISH for c in active):
        hint += " A pod was publishing: the version may be at a publish target that the status does not list."
    draft.fail(
        Failure(
            reason=Reason.DEADLINE_EXCEEDED,
            message=f"pods ran {used} s in total, but activeDeadlineSeconds is {limit}",
            hint=hint,
        )
    )
