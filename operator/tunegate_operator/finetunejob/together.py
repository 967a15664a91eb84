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
LONGEST_PAUSE_SECONDS = 600
"""Nodes may be lost without end: whoever has enough of it says so by ``activeDeadlineSeconds``."""
_NOT_COUNTED = ("Succeeded", "Suspended", Reason.EVICTED, Reason.NODE_LOST)


def may_begin_again(child: Child, last_step: int, draft: Draft) -> bool:
    """Whether another attempt follows now. It may follow later; where none does, the job has failed.

    ``last_step`` is that of the last checkpoint.
    """
    evicted = evicted_too_often(child, last_step, draft)
    if evicted:
        draft.fail(evicted)
        return False
    in_vain = [a for a in _attempts(child, draft) if a.last_step == last_step]
    failed = [a for a in in_vain if _counts(a, child, draft)]
    lost = [a for a in in_vain if a.result == Reason.NODE_LOST]
    ended = {a.number: len(alike) for alike in (failed, lost) for a in alike}
    if child.attempt not in ended:
        return True
    failure = classify(child)
    if len(failed) > BACKOFF_LIMIT:
        draft.fail(without_progress(failure))
        return False
    pause = min(FIRST_PAUSE_SECONDS * 2 ** (ended[child.attempt] - 1), LONGEST_PAUSE_SECONDS)
    due = (child.finished or draft.now) + timedelta(seconds=pause)
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
