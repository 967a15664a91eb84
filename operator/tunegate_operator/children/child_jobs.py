"""The child Jobs of one owner in one decision: what is observed, and what status remembers."""

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
"""Results of attempts that did not fail."""


@dataclass(frozen=True)
class Ledger:
    """What the owner's status remembers of its child Jobs: read before a decision, and written after it."""

    attempts: tuple[Attempt, ...] = ()
    """Attempts that ended."""
    evictions: tuple[Eviction, ...] = ()
    running_seconds: int = 0
    """Running time of all pods that ended."""
    gpu_seconds: int = 0
    counted_until: datetime | None = None
    """Creation time of the last pod whose time is in both totals although its Job continues."""


@dataclass
class ChildJobs:
    """What policies read about child Jobs, and what they change: the ledger and the agenda."""

    children: tuple[Child, ...]
    refusal: Refusal | None
    """Why the last creation of a child failed; None if it did not."""
    ledger: Ledger
    agenda: Agenda
    gpus: Callable[[Step], int]
    """How many GPUs the pods of a step hold in total."""
    last_checkpoint: Callable[[Step], int]
    """The training step of the last checkpoint, which shows progress; 0 without one."""
    resumable: frozenset[Role] = frozenset()
    """Roles whose next attempt resumes from the last checkpoint. Other roles are not retried after a
    failure."""

    def recorded(self, step: Step) -> list[Attempt]:
        """Return the attempts of a step that status records as ended."""
        return [a for a in self.ledger.attempts if (a.role, a.stage) == (step.role, step.stage)]

    def latest_number(self, step: Step) -> int:
        """Return the number of the latest attempt of a step, even without its Job; 0 before the first."""
        seen = [child.attempt for child in self.children if child.step == step]
        return max([*seen, *(attempt.number for attempt in self.recorded(step))], default=0)

    def latest(self, step: Step) -> Child | None:
        """Return the Job of the latest attempt; None if there is none, or a suspension removed it."""
        number = self.latest_number(step)
        found = (c for c in self.children if c.step == step and not c.deleting and c.attempt == number)
        return next(found, None)

    def has_succeeded(self, step: Step) -> bool:
        """Whether status says that the latest attempt of a step completed."""
        latest = self._latest_recorded(step)
        return latest is not None and latest.result == SUCCEEDED

    def finished(self, step: Step) -> datetime | None:
        """Return when the latest attempt of a step ended, even if its Job is removed."""
        child, recorded = self.latest(step), self._latest_recorded(step)
        if child:
            return child.finished
        return recorded.finished if recorded else None

    def is_recorded(self, child: Child) -> bool:
        """Whether this attempt was recorded as ended. Attempts are recorded in order, so the record of a
        later one is enough."""
        return any(attempt.number >= child.attempt for attempt in self.recorded(child.step))

    @property
    def active(self) -> list[Child]:
        """The children that run or wait, and are not being deleted."""
        return [c for c in self.children if c.state is ChildState.ACTIVE and not c.deleting]

    def _latest_recorded(self, step: Step) -> Attempt | None:
        return max(self.recorded(step), key=lambda attempt: attempt.number, default=None)


def newest(items: Sequence[Item], most: int, key: Callable[[Item], Hashable]) -> list[Item]:
    """Return the ``most`` newest items, in their order, but prefer the newest item of each key to all others.

    That item shows the state of its key. Without it, it would seem that nothing had happened.
    """
    last = {key(item): item for item in items}
    older = [item for item in items if last[key(item)] is not item]
    dropped = {id(item) for item in older[: max(0, len(items) - most)]}
    return [item for item in items if id(item) not in dropped][-most:]
