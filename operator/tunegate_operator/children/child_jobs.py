"""The child Jobs of one owner in one decision: the observed Jobs, and the ledger that status keeps of
them."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from tunegate_api.contract.process import Role
from tunegate_api.v1alpha2.finetunejob_status import Attempt, Eviction
from tunegate_operator.children.observed import Child, ChildState
from tunegate_operator.engine.controller import Agenda, Refusal
from tunegate_operator.names import Step

Item = TypeVar("Item")

SUCCEEDED, SUSPENDED = "Succeeded", "Suspended"
"""Results of attempts that did not fail."""


@dataclass(frozen=True)
class Ledger:
    """The part of the owner's status that records child Jobs. It is read before a decision and written after
    the decision."""

    attempts: tuple[Attempt, ...] = ()
    """The attempts that ended."""
    evictions: tuple[Eviction, ...] = ()
    running_seconds: int = 0
    """Total running time of all pods that ended."""
    gpu_seconds: int = 0
    counted_until: datetime | None = None
    """For a Job that continues: the creation time of its newest pod whose running time is already in
    ``running_seconds`` and ``gpu_seconds``."""


@dataclass
class ChildJobs:
    """The observed child Jobs of an owner. A decision changes only the ledger and the agenda."""

    children: tuple[Child, ...]
    refusal: Refusal | None
    """Why the last creation of a child failed; None if it succeeded."""
    ledger: Ledger
    agenda: Agenda
    gpus: Callable[[Step], int]
    """Returns how many GPUs all pods of a step use in total."""
    last_checkpoint: Callable[[Step], int]
    """Returns a number that grows with the progress of a step: for training, the optimizer step of the last
    evaluated checkpoint; 0 before the first."""
    resumable: frozenset[Role] = frozenset()
    """Roles whose next attempt resumes from the last checkpoint. Failed Jobs of other roles are not
    retried."""

    def recorded(self, step: Step) -> list[Attempt]:
        """Return the attempts of a step that are recorded as ended."""
        return [a for a in self.ledger.attempts if (a.role, a.stage) == (step.role, step.stage)]

    def latest_number(self, step: Step) -> int:
        """Return the number of the latest attempt of a step, even if its Job is deleted; 0 before the first
        attempt."""
        seen = [child.attempt for child in self.children if child.step == step]
        return max([*seen, *(attempt.number for attempt in self.recorded(step))], default=0)

    def latest(self, step: Step) -> Child | None:
        """Return the Job of the latest attempt of a step; None if there is no attempt, or if the Job of the
        latest attempt is deleted or being deleted."""
        number = self.latest_number(step)
        found = (c for c in self.children if c.step == step and not c.deleting and c.attempt == number)
        return next(found, None)

    def has_succeeded(self, step: Step) -> bool:
        """Whether the latest attempt of a step succeeded, even if its Job is deleted."""
        child, recorded = self.latest(step), self._latest_recorded(step)
        if child:
            return child.state is ChildState.COMPLETE
        return recorded is not None and recorded.result == SUCCEEDED

    def finished(self, step: Step) -> datetime | None:
        """Return when the latest attempt of a step ended, even if its Job is deleted; None if this attempt
        has not ended, or if there is no attempt."""
        child, recorded = self.latest(step), self._latest_recorded(step)
        if child:
            return child.finished
        return recorded.finished if recorded else None

    def is_recorded(self, child: Child) -> bool:
        """Whether the attempt of a child is recorded as ended. Attempts are recorded in order, so a record of
        a later attempt means that this attempt was recorded too."""
        return any(attempt.number >= child.attempt for attempt in self.recorded(child.step))

    @property
    def active(self) -> list[Child]:
        """The children that have not ended and are not being deleted."""
        return [c for c in self.children if c.state is ChildState.ACTIVE and not c.deleting]

    def _latest_recorded(self, step: Step) -> Attempt | None:
        return max(self.recorded(step), key=lambda attempt: attempt.number, default=None)


def newest(items: Sequence[Item], most: int, key: Callable[[Item], Hashable]) -> list[Item]:
    """Return at most ``most`` of ``items``, in their order, which is from oldest to newest.

    The oldest items are dropped first. But the newest item of each key shows the current state of this key,
    so it is dropped only if all remaining items are the newest of their keys.
    """
    last = {key(item): item for item in items}
    older = [item for item in items if last[key(item)] is not item]
    dropped = {id(item) for item in older[: max(0, len(items) - most)]}
    return [item for item in items if id(item) not in dropped][-most:]
