"""Pods that the cluster took away cost no restart. Too many in a row, with nothing gained, end the job."""

from tunegate_api.v1alpha1.finetunejob_status import MAX_EVICTIONS, Eviction, Failure, Reason
from tunegate_operator.finetunejob.draft import Draft
from tunegate_operator.finetunejob.failures import was_evicted
from tunegate_operator.finetunejob.observe import Child, Pod

LONGEST_PREFIX = 58
"""To so many characters a Job's name is cut before a pod's five are added."""


def evicted_too_often(child: Child, last_step: int, draft: Draft) -> Failure | None:
    """Note pods that were evicted, since they are soon gone; whether the last ones all got nowhere.

    ``last_step`` is that of the last checkpoint.
    """
    noted = list(draft.status.evictions)
    for pod in _evicted(child, noted)[-MAX_EVICTIONS:]:
        if pod.key.name not in {e.pod for e in noted}:
            noted.append(Eviction(pod=pod.key.name, step=last_step, time=pod.finished or draft.now))
    noted = noted[-MAX_EVICTIONS:]
    draft.set(evictions=noted)
    name = series(child)
    in_vain = [e for e in noted if e.step == last_step and e.pod.startswith(name)]
    if len(in_vain) < MAX_EVICTIONS:
        return None
    return Failure(
        reason=Reason.EVICTED,
        message=f"{child.step}: {MAX_EVICTIONS} pods in a row were evicted, with no checkpoint after "
        f"step {last_step}",
        hint="Ask for what the pod uses (resources.memory), for a higher podTemplate.priorityClassName, or "
        "for more checkpoints (evaluateEvery).",
    )


def series(child: Child) -> str:
    """What the names of pods begin with that replace each other: those of the Job, or where pods train
    together those of all attempts."""
    if child.nodes > 1:
        return child.key.name.removesuffix(str(child.attempt))
    return f"{child.key.name}-"[:LONGEST_PREFIX]


def _evicted(child: Child, noted: list[Eviction]) -> list[Pod]:
    """The pods that were evicted; of those that train together one, for it ended all."""
    evicted = [pod for pod in child.pods if was_evicted(pod)]
    if child.nodes == 1:
        return evicted
    if any(eviction.pod.startswith(f"{child.key.name}-") for eviction in noted):
        return []
    told = child.telling_pod
    if told and was_evicted(told, together=True):  # the others are stopped after a fault of one, too
        evicted.append(told)
    return evicted[:1]
