"""Restart multi-pod Jobs: if one pod fails, the Job ends all its pods, and the next attempt starts new ones.

Kubernetes cannot replace a single pod of such a Job, because the other pods cannot train without it. So this
module does what the Job controller does for a single-pod Job: it allows at most ``BACKOFF_LIMIT`` restarts
without a new checkpoint, and doubles the pause with each restart. Two causes of a failure have other rules.
After a lost node, the pause grows in the same way, but restarts are not limited. After an eviction, the next
attempt starts at once, and :mod:`.evictions` limits the number of evictions.
"""

from dataclasses import dataclass
from datetime import timedelta

from tunegate_api.backoff import backoff
from tunegate_api.v1alpha2.finetunejob_status import Attempt, Failure
from tunegate_api.v1alpha2.reasons import Reason
from tunegate_operator.children.child_jobs import SUCCEEDED, SUSPENDED, ChildJobs, Ledger
from tunegate_operator.children.evictions import evicted_too_often, pod_prefix
from tunegate_operator.children.failures import classify, without_progress
from tunegate_operator.children.job import BACKOFF_LIMIT
from tunegate_operator.children.observed import Child

FIRST_PAUSE = timedelta(seconds=10)
"""Pause before the first restart. The pause doubles with each restart, as in the Job controller."""
LONGEST_PAUSE = timedelta(minutes=10)
"""Upper limit of the pause between restarts."""
_NOT_COUNTED = (SUCCEEDED, SUSPENDED, Reason.EVICTED, Reason.NODE_LOST)


@dataclass(frozen=True)
class Restart:
    """The next attempt starts after a pause."""

    message: str


def restart(jobs: ChildJobs, child: Child) -> Restart | Failure | None:
    """Return Restart while the next attempt of a multi-pod Job must wait, the final failure of the step if
    there is no next attempt, or None if the next attempt should start now.

    Restarts after lost nodes are limited only by ``activeDeadlineSeconds``.
    """
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
    """Whether an eviction of a pod of this multi-pod Job is recorded. The pods themselves may already be
    deleted."""
    prefix = f"{child.key.name}-"
    return child.nodes > 1 and any(eviction.pod.startswith(prefix) for eviction in ledger.evictions)


def _counts(attempt: Attempt, child: Child, ledger: Ledger) -> bool:
    """Whether a recorded attempt counts towards ``BACKOFF_LIMIT``: it neither succeeded nor was ended by a
    suspension, an eviction or a lost node."""
    prefix = f"{pod_prefix(child)}{attempt.number}-"
    return attempt.result not in _NOT_COUNTED and not any(
        eviction.pod.startswith(prefix) for eviction in ledger.evictions
    )
