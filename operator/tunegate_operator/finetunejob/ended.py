"""What the Jobs that follow the end of a FineTuneJob have in common."""

from datetime import datetime, timedelta

from tunegate_api.contract import Role
from tunegate_api.v1alpha1 import FineTuneJobStatus
from tunegate_operator.engine.controller import Refusal
from tunegate_operator.finetunejob.attempts import SUCCEEDED
from tunegate_operator.finetunejob.build import Step, grace_seconds
from tunegate_operator.finetunejob.observe import ChildState, Observed


def all_left(observed: Observed, ended: datetime) -> datetime:
    """When no pod of the job writes any more for sure: those that were asked to stop as it ended may still
    save. Their Jobs are deleted, so that nothing else tells."""
    job = observed.job
    told = {
        (child.step, child.attempt)
        for child in observed.children
        if child.state is not ChildState.ACTIVE and not child.deleting
    }
    steps = [
        (Step(Role(attempt.role), attempt.stage), attempt.number)
        for attempt in job.status.attempts
        if attempt.result != SUCCEEDED
    ]
    graces = [grace_seconds(job, step, observed.plan) for step, number in steps if (step, number) not in told]
    return ended + timedelta(seconds=max(graces, default=0))


def has_written(status: FineTuneJobStatus) -> bool:
    """Whether a pod of this job ever ran."""
    return status.start_time is not None or any(a.started for a in status.attempts)


def is_for_good(refusal: Refusal, patience: timedelta, now: datetime) -> bool:
    """Whether a Job is refused, or was not allowed for so long. A cluster that cannot do it now is asked
    again, with growing pauses, for as long as that takes."""
    if refusal.cause == "Unavailable":
        return False
    lasts = now - refusal.since
    return refusal.cause == "Invalid" or lasts >= patience
