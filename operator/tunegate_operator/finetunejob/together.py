"""Pods that train together: when one ends all do, and all begin again, in the next attempt.

Kubernetes replaces none of them alone, since the others cannot go on without it. So what it does for one pod
is done here: some restarts without a new checkpoint, later and later, of which none counts where the cluster
took a pod away.
"""

from datetime import timedelta

from tunegate_api.v1alpha1.finetunejob_status import Attempt, Phase, Reason
from tunegate_operator.finetunejob.build import BACKOFF_LIMIT
from tunegate_operator.finetunejob.draft import Draft
from tunegate_operator.finetunejob.evictions import evicted_too_often, series
from tunegate_operator.finetunejob.failures import classify, without_progress
from tunegate_operator.finetunejob.observe import Child

FIRST_PAUSE_SECONDS = 10
"""Before the first restart; twice as long before each of the next, as the Job controller does."""
_NOT_COUNTED = ("Succeeded", "Suspended", Reason.EVICTED, Reason.NODE_LOST)


def may_begin_again(child: Child, last_step: int, draft: Draft) -> bool:
    """Whether another attempt follows now. It may follow later; where none does, the job has failed.

    ``last_step`` is that of the last checkpoint.
    """
    in_vain = evicted_too_often(child, last_step, draft)
    if in_vain:
        draft.fail(in_vain)
        return False
    failed = [a for a in _attempts(child, draft) if a.last_step == last_step and _counts(a, child, draft)]
    if child.attempt not in {attempt.number for attempt in failed}:
        return True
    failure = classify(child)
    if len(failed) > BACKOFF_LIMIT:
        draft.fail(without_progress(failure))
        return False
    due = (child.finished or draft.now) + timedelta(seconds=FIRST_PAUSE_SECONDS * 2 ** (len(failed) - 1))
    if draft.now < due:
        draft.enter(Phase.TRAINING, f"restarting after: {failure.message}")
        draft.look_again_at(due)
        return False
    return True


def lost_to_eviction(child: Child, draft: Draft) -> bool:
    """Whether one of the pods that train together was seen to be evicted. It is soon gone, and so are those
    that ran when it ended."""
    name = f"{child.key.name}-"
    return child.nodes > 1 and any(eviction.pod.startswith(name) for eviction in draft.status.evictions)


def _attempts(child: Child, draft: Draft) -> list[Attempt]:
    return [a for a in draft.status.attempts if (a.role, a.stage) == (child.step.role, child.step.stage)]


def _counts(attempt: Attempt, child: Child, draft: Draft) -> bool:
    """Whether an attempt ended by a fault of its own, as far as anybody saw."""
    name = f"{series(child)}{attempt.number}-"
    return attempt.result not in _NOT_COUNTED and not any(
        eviction.pod.startswith(name) for eviction in draft.status.evictions
    )
