"""What the Jobs that follow the end of their owner's work have in common."""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from tunegate_api.contract import Role
from tunegate_api.v1alpha1.finetunejob_status import Attempt
from tunegate_operator.children.child_jobs import SUCCEEDED
from tunegate_operator.children.observed import Child, ChildState
from tunegate_operator.engine.controller import Refusal
from tunegate_operator.names import Step


def all_left(
    children: Iterable[Child],
    attempts: Iterable[Attempt],
    grace_seconds: Callable[[Step], int],
    ended: datetime,
) -> datetime:
    """Return when no pod writes any more for sure: those that were asked to stop at the end may still save.
    Their Jobs are deleted, so nothing else shows it."""
    seen = {
        (child.step, child.attempt)
        for child in children
        if child.state is not ChildState.ACTIVE and not child.deleting
    }
    steps = [
        (Step(Role(attempt.role), attempt.stage), attempt.number)
        for attempt in attempts
        if attempt.result != SUCCEEDED
    ]
    graces = [grace_seconds(step) for step, number in steps if (step, number) not in seen]
    return ended + timedelta(seconds=max(graces, default=0))


def has_run(started: datetime | None, attempts: Iterable[Attempt]) -> bool:
    """Whether a pod of the owner ever ran, which may have written files."""
    return started is not None or any(attempt.started for attempt in attempts)


def is_for_good(refusal: Refusal, patience: timedelta, now: datetime) -> bool:
    """Whether a Job is refused, or was not allowed for so long. A cluster that cannot create it now is asked
    again, with growing pauses, for as long as that takes."""
    if refusal.cause == "Unavailable":
        return False
    lasts = now - refusal.since
    return refusal.cause == "Invalid" or lasts >= patience
