"""Classify the failure of a child Job: its reason, a message, and a hint about what to do."""

from dataclasses import replace

from tunegate_api.contract.process import PERMANENT_EXIT_CODES, ExitCode
from tunegate_api.meta import MAX_MESSAGE
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.v1alpha2.reasons import Reason
from tunegate_operator.children.observed import Child, ChildState, Pod

DEADLINE, POLICY = "DeadlineExceeded", "PodFailurePolicy"
"""Reasons that Kubernetes gives for a failed Job: it exceeded ``activeDeadlineSeconds``, so its pods were
deleted; or a pod matched the ``FailJob`` rule of the pod failure policy."""
_KILLED = (137, 143, ExitCode.INTERRUPTED)
_LOST_NODE = (
    "DeletionByPodGC",
    "DeletionByTaintManager",
    "NodeLost",
    "NodeShutdown",
    "Shutdown",
    "Terminated",
    "TerminationByKubelet",
)
"""Reasons of pods that Kubernetes ended because their node shut down, was deleted, or does not respond.

TerminationByKubelet without the pod reason Evicted means a node shutdown. For an eviction under node
pressure, the kubelet also sets the reason Evicted.
"""

_BY_EXIT_CODE: dict[int, tuple[Reason, str]] = {
    ExitCode.BAD_DATA: (
        Reason.BAD_DATA,
        "Fix the rows named above; data/report.json on the volume lists all of them.",
    ),
    ExitCode.NOT_FOUND: (Reason.NOT_FOUND, "Check the URI, and that the volume or ConfigMap contains it."),
    ExitCode.CREDENTIALS: (Reason.CREDENTIALS, "Check the Secret that secretName refers to."),
    ExitCode.USER_ERROR: (Reason.USER_ERROR, "Change the spec as the message says."),
    ExitCode.NO_ACCELERATOR: (
        Reason.NO_ACCELERATOR,
        "Run on a machine with a GPU, or set resources.accelerator: CPU.",
    ),
    ExitCode.CUDA_OUT_OF_MEMORY: (
        Reason.CUDA_OUT_OF_MEMORY,
        "While training: lower training.maxLength; while evaluating: lower "
        "evaluation.batchSize; or choose a GPU with more memory.",
    ),
    ExitCode.UNREACHABLE: (
        Reason.UNREACHABLE,
        "Check the network of the pod (proxy, NetworkPolicy, DNS), and whether the server is up.",
    ),
    ExitCode.STORAGE: (Reason.STORAGE, "Free space on the storage volume, and check that it is writable."),
}


_HINTS: dict[str, str] = dict(_BY_EXIT_CODE.values())
_DEFAULT_HINT = "See the log of the job's last pod: kubectl logs, or the file that `tunegate run` names."


def with_hint(failure: Failure) -> Failure:
    """Return the failure with a hint. A failure without a hint gets the default hint for its reason."""
    if failure.hint:
        return failure
    return failure.model_copy(update={"hint": _HINTS.get(failure.reason, _DEFAULT_HINT)})


def classify(child: Child) -> Failure:
    """Return why a child failed, from the status of its :attr:`Child.decisive_pod`: that this pod was
    OOM-killed, or else its termination message, or else its exit code and why the cluster ended it."""
    pod = child.decisive_pod
    if pod is None or (child.state is ChildState.FAILED and not _explains(child, pod)):
        return Failure(
            reason=Reason.INTERNAL_ERROR,
            message=f"{child.step}: the Job failed ({child.failure_reason}), and none of its pods reported "
            "why",
            hint=f"See the events of the Job: kubectl describe job {child.key.name}",
        )
    if pod.oom_killed:
        return out_of_memory(child)
    if pod.termination and pod.termination.failure:
        return pod.termination.failure
    if pod.exit_code in _BY_EXIT_CODE:
        reason, hint = _BY_EXIT_CODE[pod.exit_code]
        return Failure(
            reason=reason,
            message=_tail(pod) or f"{child.step} ended with exit code {pod.exit_code}",
            hint=hint,
        )
    if pod.ended_by:
        return _ended_by_cluster(child, pod)
    if child.nodes > 1 and pod.exit_code == ExitCode.INTERRUPTED:
        return _ended_by_cluster(child, replace(pod, ended_by="SIGTERM", ended_message="all ranks saved"))
    if pod.exit_code in _KILLED:
        return Failure(
            reason=Reason.KILLED,
            message=f"{child.step}: the process was killed (exit code {pod.exit_code})",
            hint="If it happens again, check the memory of the machine, and which program kills processes.",
        )
    return Failure(
        reason=Reason.INTERNAL_ERROR,
        message=_tail(pod) or f"{child.step} ended with exit code {pod.exit_code}",
        hint=f"See the whole log: kubectl logs job/{child.key.name}, or the file that `tunegate run` names.",
    )


def is_explained(child: Child) -> bool:
    """Whether the cache shows why a child failed: all its pods have ended, and one of them explains the
    failure of the Job. If a Job exceeded its deadline, its pods are deleted, and the Job itself is enough."""
    pod = child.decisive_pod
    if pod is None or child.failure_reason == DEADLINE:
        return child.failure_reason == DEADLINE
    return _explains(child, pod) and all(_has_ended(each) for each in child.pods)


def _explains(child: Child, pod: Pod) -> bool:
    """Whether the end of a pod can explain the failure of its Job."""
    if child.failure_reason == POLICY:
        return pod.exit_code in PERMANENT_EXIT_CODES or pod.oom_killed
    return _has_ended(pod)


def _has_ended(pod: Pod) -> bool:
    return pod.phase in ("Succeeded", "Failed") or pod.exit_code is not None


def is_permanent(child: Child) -> bool:
    """Whether a child would fail again in the same way: its Job failed by the pod failure policy, or it is a
    multi-pod Job whose :attr:`Child.decisive_pod` was OOM-killed or has a permanent exit code."""
    pod = child.decisive_pod
    if child.nodes > 1 and pod and (pod.oom_killed or pod.exit_code in PERMANENT_EXIT_CODES):
        return True
    return child.failure_reason == POLICY


def was_evicted(pod: Pod, *, is_multi_pod: bool = False) -> bool:
    """Whether the cluster ended the pod for a reason other than a lost node.

    With ``is_multi_pod``, a pod that exited after SIGTERM also counts as evicted if it is unknown why it got
    SIGTERM: if one pod of a multi-pod Job is evicted, all its pods end, and the evicted pod may already be
    deleted.
    """
    if is_multi_pod and pod.exit_code == ExitCode.INTERRUPTED and not pod.ended_by:
        return True
    return pod.phase == "Failed" and pod.ended_by != "" and pod.ended_by not in _LOST_NODE


def without_progress(failure: Failure) -> Failure:
    """Return the failure with a note that restarts made no progress. If the message becomes too long, its
    beginning is cut off."""
    why = " (restarts made no progress)"
    message = failure.message[-(MAX_MESSAGE - len(why)) :] + why  # the end of a log is the most useful part
    return failure.model_copy(update={"message": message})


def _ended_by_cluster(child: Child, pod: Pod) -> Failure:
    message = f"{child.step}: the cluster ended the pod: {pod.ended_by}: {pod.ended_message}"
    if pod.ended_by in _LOST_NODE:
        return Failure(
            reason=Reason.NODE_LOST,
            message=message.removesuffix(": "),
            hint="kubectl get nodes shows whether the node is back.",
        )
    return Failure(
        reason=Reason.EVICTED,
        message=message.removesuffix(": "),
        hint="Request as much memory as the pod uses (resources.memory), or set a "
        "podTemplate.priorityClassName with a higher priority.",
    )


def out_of_memory(child: Child) -> Failure:
    return Failure(
        reason=Reason.OUT_OF_MEMORY,
        message=f"{child.step}: the pod used more host memory than its limit",
        hint="Raise resources.memory.",
    )


def has_invalid_image(child: Child) -> bool:
    """Whether the image name of a child is invalid, so that the image can never be pulled."""
    return any(pod.waiting_reason == "InvalidImageName" for pod in child.pods)


def invalid_image(child: Child) -> Failure:
    message = next(pod.waiting_message for pod in child.pods if pod.waiting_reason == "InvalidImageName")
    return Failure(
        reason=Reason.IMAGE_PULL,
        message=f"{child.step}: the image's name is invalid: {message}",
        hint="Correct the trainer image in the operator's settings, and create the job again.",
    )


def _tail(pod: Pod) -> str:
    """Return the last MAX_MESSAGE characters of the pod's termination message, or of its log if it has
    none."""
    return pod.text.strip()[-MAX_MESSAGE:]
