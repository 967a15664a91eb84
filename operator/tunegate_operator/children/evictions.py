"""Record evicted pods. Evictions do not count as restarts, but a step fails after MAX_EVICTIONS evictions
without a new checkpoint."""

from collections.abc import Sequence
from dataclasses import replace

from tunegate_api.v1alpha2.finetunejob_status import MAX_EVICTIONS, Eviction, Failure
from tunegate_api.v1alpha2.reasons import Reason
from tunegate_operator.children.child_jobs import ChildJobs
from tunegate_operator.children.failures import was_evicted
from tunegate_operator.children.observed import Child, Pod

LONGEST_PREFIX = 58
"""A pod's name begins with its Job's name and a dash, cut to this length. Five random characters follow."""


def evicted_too_often(jobs: ChildJobs, child: Child) -> Failure | None:
    """Record the evicted pods of a child, because they are soon deleted. Return a failure if MAX_EVICTIONS
    pods were evicted since the last checkpoint. Only pods of this child count; for a multi-pod Job, the pods
    of earlier attempts count too."""
    reached, known = jobs.last_checkpoint(child.step), list(jobs.ledger.evictions)
    for pod in _evicted(child, known)[-MAX_EVICTIONS:]:
        if pod.key.name not in {e.pod for e in known}:
            ended = pod.finished or jobs.agenda.now
            known.append(Eviction(pod=pod.key.name, step=reached, time=ended))
    known = known[-MAX_EVICTIONS:]
    jobs.ledger = replace(jobs.ledger, evictions=tuple(known))
    prefix = pod_prefix(child)
    at_this_checkpoint = [e for e in known if e.step == reached and e.pod.startswith(prefix)]
    if len(at_this_checkpoint) < MAX_EVICTIONS:
        return None
    return Failure(
        reason=Reason.EVICTED,
        message=f"{child.step}: {MAX_EVICTIONS} pods in a row were evicted, with no checkpoint after "
        f"step {reached}",
        hint="Request as much memory as the pod uses (resources.memory), set a podTemplate.priorityClassName "
        "with a higher priority, or save checkpoints more often (evaluation.every).",
    )


def pod_prefix(child: Child) -> str:
    """Return a prefix of pod names. The evictions of all pods with this prefix are counted together.

    The prefix is the Job's name with a dash, cut to LONGEST_PREFIX. For a multi-pod Job, it is
    the Job's name without the attempt number, so that the pods of all attempts have this prefix.
    """
    if child.nodes > 1:
        return child.key.name.removesuffix(str(child.attempt))
    return f"{child.key.name}-"[:LONGEST_PREFIX]


def _evicted(child: Child, known: Sequence[Eviction]) -> list[Pod]:
    """Return the evicted pods of a child. One eviction ends all pods of a multi-pod Job. So for a multi-pod
    Job, return at most one pod, and none if an eviction of this Job is already recorded."""
    evicted = [pod for pod in child.pods if was_evicted(pod)]
    if child.nodes == 1:
        return evicted
    if any(eviction.pod.startswith(f"{child.key.name}-") for eviction in known):
        return []
    pod = child.decisive_pod
    # Only the decisive pod: the other pods also get SIGTERM if one pod fails for a reason of its own.
    if pod and was_evicted(pod, is_multi_pod=True):
        evicted.append(pod)
    return evicted[:1]
