"""The child Jobs of one object in one decision: what is observed and remembered of them."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from tunegate_api.contract import Role
from tunegate_api.v1alpha1.finetunejob_status import Attempt, Eviction
from tunegate_operator.children.observed import Child, ChildState
from tunegate_operator.engine.controller import Agenda, Refusal
from tunegate_operator.names import Step

Item = TypeVar("Item")

SUCCEEDED, SUSPENDED = "Succeeded", "Suspended"
"""Results of attempts that are no failure."""


@dataclass(frozen=True)
class Ledger:
    """What the owner's status remembers of its child Jobs: read before a decision, and written after it."""

    attempts: tuple[Attempt, ...] = ()
    """Those that ended."""
    evictions: tuple[Eviction, ...] = ()
    running_seconds: int = 0
    """How long the pods ran that have ended."""
    gpu_seconds: int = 0
    counted_until: datetime | None = None
    """When the last pod was created that is counted in both although its Job goes on."""


@dataclass
class ChildJobs:
    """What the policies of child Jobs decide from, and what they change: the ledger and the agenda."""

    children: tuple[Child, ...]
    refusal: Refusal | None
    """Why the cluster did not create a child when it was last asked to."""
    ledger: Ledger
    agenda: Agenda
    gpus: Callable[[Step], int]
    """How many GPUs all pods of a step hold."""
    last_checkpoint: Callable[[Step], int]
    """The number of the last checkpoint that a step has, which shows its progress; 0 without any."""
    resumable: frozenset[Role] = frozenset()
    """The roles whose next attempt resumes from the last checkpoint. Of other roles no attempt is retried."""

    def recorded(self, step: Step) -> list[Attempt]:
        """The attempts of a step that ended and that the status remembers."""
        return [a for a in self.ledger.attempts if (a.role, a.stage) == (step.role, step.stage)]

    def latest_number(self, step: Step) -> int:
        """The number of the latest attempt of a step, its Job removed or not; 0 before the first."""
        seen = [child.attempt for child in self.children if child.step == step]
        return max([*seen, *(attempt.number for attempt in self.recorded(step))], default=0)

    def latest(self, step: Step) -> Child | None:
        """The Job of the latest attempt; None if it was removed, as by a suspension, or if there was none."""
        number = self.latest_number(step)
        found = (c for c in self.children if c.step == step and not c.deleting and c.attempt == number)
        return next(found, None)

    def has_succeeded(self, step: Step) -> bool:
        """Whether the status says that the latest attempt of a step completed."""
        latest = self._latest_recorded(step)
        return latest is not None and latest.result == SUCCEEDED

    def finished(self, step: Step) -> datetime | None:
        """When the latest attempt of a step ended, its Job removed or not."""
        child, recorded = self.latest(step), self._latest_recorded(step)
        if child:
            return child.finished
        return recorded.finished if recorded else None

    def is_recorded(self, child: Child) -> bool:
        """Whether the status has this attempt, or had it: it ended, or was ended. Attempts are recorded in
        order."""
        return any(attempt.number >= child.attempt for attempt in self.recorded(child.step))

    @property
    def active(self) -> list[Child]:
        """The children that run or wait, and are not being deleted."""
        return [c for c in self.children if c.state is ChildState.ACTIVE and not c.deleting]

    def _latest_recorded(self, step: Step) -> Attempt | None:
        return max(self.recorded(step), key=lambda attempt: attempt.number, default=None)


def newest(items: Sequence[Item], most: int, key: Callable[[Item], Hashable]) -> list[Item]:
    """The ``most`` newest items, in their order, where the newest of each key outlives any other.

    What happened last to a thing says how it stands; without it, it would seem never to have happened.
    """
    last = {key(item): item for item in items}
    older = [item for item in items if last[key(item)] is not item]
    dropped = {id(item) for item in older[: max(0, len(items) - most)]}
    return [item for item in items if id(item) not in dropped][-most:]
