"""Restart multi-pod Jobs: when one pod ends, all end, and the next attempt starts all of them.

Kubernetes replaces no single pod, because the others cannot train without it. So this module does what the
Job controller does for a single pod: it allows some restarts without a new checkpoint, with growing pauses.
Restarts after an eviction or a lost node do not count.
"""

from dataclasses import dataclass
from datetime import timedelta

from tunegate_api.backoff import backoff
from tunegate_api.v1alpha1.finetunejob_status import Attempt, Failure, Reason
from tunegate_operator.children.child_jobs import SUCCEEDED, SUSPENDED, ChildJobs, Ledger
from tunegate_operator.children.evictions import evicted_too_often, pod_prefix
from tunegate_operator.children.failures import classify, without_progress
from tunegate_operator.children.job import BACKOFF_LIMIT
from tunegate_operator.children.observed import Child

FIRST_PAUSE = timedelta(seconds=10)
"""Pause before the first restart. It doubles with each restart, as in the Job controller."""
LONGEST_PAUSE = timedelta(minutes=10)
"""Restarts after lost nodes have no limit but ``activeDeadlineSeconds``."""
_NOT_COUNTED = (SUCCEEDED, SUSPENDED, Reason.EVICTED, Reason.NODE_LOST)


@dataclass(frozen=True)
class Restart:
    """Another attempt follows after a pause."""

    message: str


def restart(jobs: ChildJobs, child: Child) -> Restart | Failure | None:
    """Return what follows a failed attempt: a pause or the final failure; None if the next attempt is due."""
    evicted = evicted_too_often(jobs, child)
    if evicted:
        return evicted
    reached = jobs.last_checkpoint(child.step)
    at_this_checkpoint = [attempt for attempt in jobs.recorded(child.step) if attempt.last_step == reached]
    failed = [attempt for attempt in at_this_checkpoint if _counts(attempt, child, jobs.ledger)]
    lost = [attempt for attempt in at_this_checkpoint if attempt.result == Reason.NODE_LOST]
    ended = {attempt.number: len(alike) for alike in (failed, lost) for attempt in alike}
    if child.attempt not in ended:
        return None
    failure = classify(child)
    if len(failed) > BACKOFF_LIMIT:
        return without_progress(failure)
    pause = backoff(FIRST_PAUSE, LONGEST_PAUSE, ended[child.attempt])
    due = (child.finished or jobs.agenda.now) + pause
    if jobs.agenda.now < due:
        jobs.agenda.look_again_at(due)
        return Restart(f"restarting after: {failure.message}")
    return None


def lost_to_eviction(child: Child, ledger: Ledger) -> bool:
    """Whether an eviction is recorded for a multi-pod Job, whose pods may be deleted by now."""
    prefix = f"{child.key.name}-"
    return child.nodes > 1 and any(eviction.pod.startswith(prefix) for eviction in ledger.evictions)


def _counts(attempt: Attempt, child: Child, ledger: Ledger) -> bool:
    """Whether an attempt counts as a restart: it failed for a reason of its own, as far as is known."""
    prefix = f"{pod_prefix(child)}{attempt.number}-"
    return attempt.result not in _NOT_COUNTED and not any(
        eviction.pod.startswith(prefix) for eviction in ledger.evictions
    )
