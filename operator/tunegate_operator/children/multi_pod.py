"""Restarts of multi-pod Jobs: when one pod ends all do, and the next attempt starts all of them.

Kubernetes replaces no single pod, because the others cannot train without it. So what it does for one pod is
done here: some restarts without a new checkpoint, with growing pauses, of which none counts where the cluster
took a pod away.
"""

from dataclasses import dataclass
from datetime import timedelta

from tunegate_api.v1alpha1.finetunejob_status import Attempt, Failure, Reason
from tunegate_operator.children.child_jobs import SUCCEEDED, SUSPENDED, ChildJobs, Ledger
from tunegate_operator.children.evictions import evicted_too_often, pod_prefix
from tunegate_operator.children.failures import classify, without_progress
from tunegate_operator.children.job import BACKOFF_LIMIT
from tunegate_operator.children.observed import Child
from tunegate_operator.engine.backoff import backoff

FIRST_PAUSE = timedelta(seconds=10)
"""Before the first restart; twice as long before each of the next, as the Job controller does."""
LONGEST_PAUSE = timedelta(minutes=10)
"""Nodes may be lost without end: whoever has enough of it sets ``activeDeadlineSeconds``."""
_NOT_COUNTED = (SUCCEEDED, SUSPENDED, Reason.EVICTED, Reason.NODE_LOST)


@dataclass(frozen=True)
class Restart:
    """Another attempt follows after a pause."""

    message: str


def restart(jobs: ChildJobs, child: Child) -> Restart | Failure | None:
    """Return what follows a failed attempt: a pause, or nothing more; None where the next attempt is due."""
    evicted = evicted_too_often(jobs, child)
    if evicted:
        return evicted
    reached = jobs.last_checkpoint(child.step)
    in_vain = [attempt for attempt in jobs.recorded(child.step) if attempt.last_step == reached]
    failed = [attempt for attempt in in_vain if _counts(attempt, child, jobs.ledger)]
    lost = [attempt for attempt in in_vain if attempt.result == Reason.NODE_LOST]
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
    """Whether a pod of a multi-pod Job was seen to be evicted. It is soon gone, and so are those that ran
    when it ended."""
    prefix = f"{child.key.name}-"
    return child.nodes > 1 and any(eviction.pod.startswith(prefix) for eviction in ledger.evictions)


def _counts(attempt: Attempt, child: Child, ledger: Ledger) -> bool:
    """Whether an attempt ended by a fault of its own, as far as is known."""
    prefix = f"{pod_prefix(child)}{attempt.number}-"
    return attempt.result not in _NOT_COUNTED and not any(
        eviction.pod.startswith(prefix) for eviction in ledger.evictions
    )
