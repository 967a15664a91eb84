"""Rules for the cleanup and track Jobs, which run after their owner ended."""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from tunegate_api.contract.process import Role
from tunegate_api.v1alpha2.finetunejob_status import Attempt
from tunegate_operator.children.child_jobs import SUCCEEDED
from tunegate_operator.children.observed import Child, ChildState
from tunegate_operator.engine.controller import Refusal
from tunegate_operator.names import Step


def pods_gone_by(
    children: Iterable[Child],
    attempts: Iterable[Attempt],
    grace_seconds: Callable[[Step], int],
    ended: datetime,
) -> datetime:
    """Return the time by which all pods have certainly stopped writing.

    A pod that was stopped at ``ended`` may still save during its grace period. Its Job is deleted, so the
    operator cannot observe when the pod ends.
    """
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
    """Whether a pod of the owner ever ran. Such a pod may have written files."""
    return started is not None or any(attempt.started for attempt in attempts)


def is_final_refusal(refusal: Refusal, patience: timedelta, now: datetime) -> bool:
    """Whether the refusal of a Job is final: the Job is invalid, or was refused for ``patience`` or longer.

    A refusal because the API server is unavailable is never final: the creation is retried without limit,
    with growing pauses.
    """
    if refusal.cause == "Unavailable":
        return False
    lasts = now - refusal.since
    return refusal.cause == "Invalid" or lasts >= patience
