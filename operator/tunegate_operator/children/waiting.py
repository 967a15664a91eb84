"""Find out why a child Job does not run yet, and limit how long to wait for it."""

import re
from datetime import datetime, timedelta

from tunegate_api.contract.process import Role
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.v1alpha2.reasons import Reason
from tunegate_operator.children.failures import is_explained
from tunegate_operator.children.observed import Child, ChildState, Pod
from tunegate_operator.engine.controller import Agenda, LookUpEvents, Refusal
from tunegate_operator.names import Step

LOOK_UP_AFTER_SECONDS = 10
"""Seconds after which the Events of a new child or pod are looked up, if it does not run and its status shows
no reason."""
LOOK_UP_AGAIN_SECONDS = 60
NODE_PATIENCE_SECONDS = 30
"""How long after the end of a pod's grace period its node may take to report that the pod ended."""
POD_END_SECONDS = 100
"""Seconds to wait, after a Job ended, for the watch events that show the end of its pods. These events may
arrive after those of the Job, and a watch on a dead connection is reopened after 90 seconds."""

PURPOSES = {
    Role.DATA: "checking the data and fetching the model",
    Role.TRAIN: "training",
    Role.GATE: "judging the artifact",
    Role.PUBLISH: "publishing",
    Role.REPORT: "sending the last report",
    Role.TRACK: "sending metrics to the trackers",
    Role.CLEANUP: "removing files",
}
"""What the pods of each role do, for messages."""

_IMAGE_REASONS = (
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
)
_BACK_OFF = re.compile(r'Back-off pulling image "[^"]*": (?P<code>\w+): (?P<message>.*)', re.DOTALL)
"""Matches the message of a kubelet that waits before it tries to pull an image again."""
_UNSPECIFIC_REASONS = ("", "ContainerCreating", "PodInitializing")
"""Waiting reasons of a kubelet that do not explain why a container has not started."""

_REASON_PATTERNS: tuple[tuple[str, Reason], ...] = (
    (r"exceeded quota", Reason.QUOTA_EXCEEDED),
    (r"is forbidden", Reason.FORBIDDEN),
    (r"secret \S* ?not found|secret key|in Secret ", Reason.SECRET_NOT_FOUND),
    (r"configmap \S* ?not found|config key|in ConfigMap ", Reason.CONFIG_MAP_NOT_FOUND),
    (r"(?i:persistentvolumeclaim)|Multi-Attach|^FailedAttachVolume|^FailedMount", Reason.VOLUME_NOT_READY),
)
"""Patterns that map a message of Kubernetes to a reason, because Kubernetes sets no codes for these causes.
The first pattern that matches is used."""


def refusal_reason(refusal: Refusal, role: Role) -> tuple[Reason, str]:
    """Return the reason and the message that status shows for a refused creation of a child."""
    if refusal.cause == "Taken":
        return Reason.NAME_TAKEN, refusal.message
    if refusal.cause == "Unavailable":
        return Reason.POD_NOT_STARTED, f"{role}: {refusal.message}"
    return _reason_in(refusal.message, Reason.FORBIDDEN), f"{role}: {refusal.message}"


def start_timeout(
    since: datetime, agenda: Agenda, reason: Reason, message: str, timeout_seconds: int
) -> Failure | None:
    """Return a failure if the wait that began at ``since`` has timed out; otherwise None."""
    end = since + timedelta(seconds=timeout_seconds)
    if agenda.now < end:
        agenda.look_again_at(end)
        return None
    return Failure(reason=Reason.START_TIMEOUT, message=f"waited {timeout_seconds} s: {reason}: {message}")


def why_waiting(child: Child, agenda: Agenda) -> tuple[Reason, str] | None:
    """Return why a child does not run, from the status of its pod, or else from Events; None if neither shows
    a reason."""
    pod = child.decisive_pod
    return (_why_by_pod(child.step, pod) if pod else None) or _why_by_events(child, agenda)


def must_await_pods(child: Child, agenda: Agenda) -> bool:
    """Whether to wait until the cache shows that the pods of a failed child ended, because the pods show why
    the child failed. The wait is limited to POD_END_SECONDS, because a pod may have been deleted."""
    if child.state is not ChildState.FAILED or is_explained(child):
        return False
    until = (child.finished or child.created) + timedelta(seconds=POD_END_SECONDS)
    if agenda.now < until:
        agenda.look_again_at(until)
    return agenda.now < until


def overdue_pod(child: Child, agenda: Agenda) -> tuple[Reason, str] | None:
    """Return a reason and a message if a pod that is being deleted is still shown as running long after its
    grace period. Only the pod's node can confirm that it ended."""
    for pod in child.pods:
        if pod.phase == "Running" and pod.due_to_end:
            overdue = pod.due_to_end + timedelta(seconds=NODE_PATIENCE_SECONDS)
            if agenda.now >= overdue:
                message = (
                    f"{child.step}: pod {pod.key.name} should have ended, but its node does not confirm it"
                )
                return Reason.NODE_LOST, message
            agenda.look_again_at(overdue)
    return None


def _why_by_pod(step: Step, pod: Pod) -> tuple[Reason, str] | None:
    if pod.unschedulable:
        reason = _reason_in(pod.unschedulable, Reason.POD_UNSCHEDULABLE)
        return reason, f"{step}: {pod.unschedulable}{_zone_hint(pod.unschedulable)}"
    if pod.waiting_reason in _UNSPECIFIC_REASONS:
        return None
    code, message = pod.waiting_reason, pod.waiting_message
    # A kubelet alternates between the error of a pull and a back-off whose message repeats this error. Both
    # are shown as the error, so that status does not change each time.
    back_off = _BACK_OFF.fullmatch(message)
    if back_off:
        code, message = back_off["code"], back_off["message"]
    full_message = f"{step}: {code}: {message}".removesuffix(": ")
    if code in _IMAGE_REASONS:
        return Reason.IMAGE_PULL, full_message
    return _reason_in(message, Reason.POD_NOT_STARTED), full_message


def _why_by_events(child: Child, agenda: Agenda) -> tuple[Reason, str] | None:
    """Return the reason that Events show for a child that does not run; None if they show none. Look up the
    Events if this was not done recently.

    Events of the Job explain why a pod is missing. If all pods exist, Events of a pod explain why it does not
    start, for example because a volume is missing.
    """
    pod = child.decisive_pod
    subject = pod if pod and len(child.pods) >= child.nodes else child
    found = subject.looked_up
    due = (
        found.asked + timedelta(seconds=LOOK_UP_AGAIN_SECONDS)
        if found
        else subject.created + timedelta(seconds=LOOK_UP_AFTER_SECONDS)
    )
    if agenda.now >= due:
        agenda.actions.append(LookUpEvents(subject.key.namespace, subject.uid))
    else:
        agenda.look_again_at(due)
    if found and found.is_warning:
        reason = _reason_in(f"{found.reason}: {found.message}", Reason.POD_NOT_STARTED)
        return reason, f"{child.step}: {found.reason}: {found.message}"
    if found and found.reason == "Pulling":
        return Reason.POD_NOT_STARTED, f"{child.step}: {found.message}"
    return None


def _zone_hint(text: str) -> str:
    """Return an explanation if the scheduler reports a volume node affinity conflict; otherwise an empty
    text.

    This happens if the storage volume was created in the zone of the data pod, and the GPUs are in another
    zone.
    """
    if "volume node affinity conflict" not in text:
        return ""
    return " (the storage volume can be mounted only on nodes, or in a zone, where the pod does not fit)"


def _reason_in(text: str, otherwise: Reason) -> Reason:
    return next((reason for pattern, reason in _REASON_PATTERNS if re.search(pattern, text)), otherwise)
