"""Read the child Jobs of an owner, and the pods of these Jobs, from the cache, for a controller of any
kind."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from tunegate_api.contract.process import Role, Termination, cause_priority
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.controller import View
from tunegate_operator.engine.events import event_time
from tunegate_operator.engine.own_pods import pod_problem
from tunegate_operator.names import ATTEMPT_LABEL, CONTAINER, ROLE_LABEL, STAGE_LABEL, Step

_ATTEMPT = re.compile("[1-9][0-9]{0,5}")
NO_OWN_POD = "NoOwnPodSucceeded"
"""Failure reason of a Job that is complete, although none of its own pods succeeded."""


class ChildState(StrEnum):
    ACTIVE = "Active"
    COMPLETE = "Complete"
    FAILED = "Failed"


@dataclass(frozen=True)
class LookedUp:
    """The result of a look-up of an object's Events: the time, and the newest Event, if there is one."""

    asked: datetime
    is_warning: bool = False
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class Pod:
    """The fields of a pod that decisions need."""

    key: Key
    uid: str
    created: datetime
    phase: str
    started: datetime | None = None
    """When the container of the pod started."""
    finished: datetime | None = None
    exit_code: int | None = None
    oom_killed: bool = False
    image: str = ""
    """The image that the pod runs, by digest; empty before the container starts, and on a laptop."""
    text: str = ""
    """The termination message: JSON that the trainer wrote, or the end of the log."""
    waiting_reason: str = ""
    waiting_message: str = ""
    unschedulable: str = ""
    ended_by: str = ""
    """Why the cluster ended the pod: the reason in the pod's status, or else in its DisruptionTarget
    condition; empty if the cluster did not end it."""
    ended_message: str = ""
    due_to_end: datetime | None = None
    """If the pod is being deleted, the time by which it should end."""
    looked_up: LookedUp | None = None

    def running_seconds(self, now: datetime) -> int:
        """Return how long the container of the pod ran, or has been running at ``now``."""
        return max(0, round(((self.finished or now) - self.started).total_seconds())) if self.started else 0

    @property
    def termination(self) -> Termination | None:
        """The trainer's termination message; None if the trainer did not write one."""
        try:
            return Termination.model_validate_json(self.text)
        except ValidationError:
            return None


@dataclass(frozen=True)
class Child:
    """A child Job, which is one attempt of a step."""

    key: Key
    uid: str
    created: datetime
    step: Step
    attempt: int
    state: ChildState
    failure_reason: str
    """The reason in the Job's Failed condition; empty if the Job has not failed."""
    finished: datetime | None
    deleting: bool
    pods: tuple[Pod, ...]
    """The pods of the Job, sorted from oldest to newest."""
    looked_up: LookedUp | None = None
    nodes: int = 1
    """How many pods the Job runs at the same time: more than 1 for a multi-pod Job."""

    @property
    def decisive_pod(self) -> Pod | None:
        """The pod that explains the child's state: the newest pod, or in a multi-pod Job the pod whose end
        best explains why the other pods ended. None if there is no pod."""
        if self.nodes == 1:
            return self.pods[-1] if self.pods else None
        return max(self.pods, key=_weight, default=None)

    @property
    def started(self) -> datetime | None:
        """When the first container of the child's pods started; None if none has started."""
        return min((pod.started for pod in self.pods if pod.started), default=None)

    def running_seconds(self, now: datetime, counted_until: datetime | None) -> int:
        """Return the running time at ``now`` of the pods that were created after ``counted_until``.

        For a multi-pod Job, this is the running time of the pod that ran longest, otherwise the sum. Waiting
        for a queue or a node is not running time.
        """
        counted = [
            pod.running_seconds(now)
            for pod in self.pods
            if counted_until is None or pod.created > counted_until
        ]
        return sum(counted) if self.nodes == 1 else max(counted, default=0)

    @property
    def is_running(self) -> bool:
        """Whether as many pods as the Job needs are running or have succeeded."""
        return sum(pod.phase in ("Running", "Succeeded") for pod in self.pods) >= self.nodes


def _weight(pod: Pod) -> float:
    """Return how well the end of a pod explains the failure of its multi-pod Job. A higher number is better,
    see :func:`cause_priority`."""
    if pod.oom_killed:
        return 5
    if pod.phase != "Failed":
        return -1 if pod.phase == "Running" else 0
    ended = pod.termination
    weight = cause_priority(137 if pod.exit_code is None else pod.exit_code, ended.failure if ended else None)
    return max(weight, 2.5) if pod.ended_by else weight


@dataclass(frozen=True)
class Ignored:
    """A Job that names an object as its owner, but is none of its attempts, or a pod that names a child Job
    as its owner, but is not what the pod template of the Job makes."""

    kind: str
    name: str
    problem: str


def observe_children(
    owner: Object, view: View, nodes: Mapping[Step, int]
) -> tuple[tuple[Child, ...], tuple[Ignored, ...]]:
    """Return the child Jobs of ``owner``, and the Jobs and pods to ignore.

    ``nodes`` maps each step that the owner may have to the number of its pods that run at the same time.
    """
    children: list[Child] = []
    ignored: list[Ignored] = []
    for job in view.children(owner, "Job"):
        try:
            step, attempt = _attempt(job["metadata"].get("labels") or {}, nodes)
        except ValueError as error:
            ignored.append(Ignored("Job", job["metadata"]["name"], str(error)))
            continue
        pods = [(pod, pod_problem(pod, job)) for pod in view.children(job, "Pod")]
        foreign = [Ignored("Pod", pod["metadata"]["name"], problem) for pod, problem in pods if problem]
        own = tuple(_pod(pod, view) for pod, problem in pods if not problem)
        child = _child(job, own, view, step=step, attempt=attempt, nodes=nodes[step])
        children.append(_without_forged_success(child) if foreign or step.role.is_chore else child)
        ignored += foreign
    return tuple(children), tuple(ignored)


def _without_forged_success(child: Child) -> Child:
    """Return a child as failed if it completed, but none of its own pods succeeded. The Job controller counts
    every pod that names the Job, and the cache lacks those without the operator's labels. If a role reports,
    its last report is needed too, so this matters for the other roles."""
    if child.state is not ChildState.COMPLETE or any(pod.exit_code == 0 for pod in child.pods):
        return child
    return replace(child, state=ChildState.FAILED, failure_reason=NO_OWN_POD)


def _child(obj: Object, pods: tuple[Pod, ...], view: View, *, step: Step, attempt: int, nodes: int) -> Child:
    meta, status = obj["metadata"], obj.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions", []) if c["status"] == "True"}
    if "Complete" in conditions:
        state, finished = ChildState.COMPLETE, _time(status.get("completionTime"))
    elif "Failed" in conditions:
        state, finished = ChildState.FAILED, _time(conditions["Failed"].get("lastTransitionTime"))
    else:
        state, finished = ChildState.ACTIVE, None
    return Child(
        key=Key.of(obj),
        uid=meta["uid"],
        created=datetime.fromisoformat(meta["creationTimestamp"]),
        step=step,
        attempt=attempt,
        state=state,
        failure_reason=conditions.get("Failed", {}).get("reason", ""),
        finished=finished,
        deleting="deletionTimestamp" in meta,
        pods=pods,
        looked_up=_looked_up(view, meta["uid"]),
        nodes=nodes,
    )


def _attempt(labels: dict[str, str], steps: Mapping[Step, int]) -> tuple[Step, int]:
    """Return the step and the attempt number in a Job's labels. Raises ValueError if a label is missing or
    invalid, or if the step is not in ``steps``."""
    role, stage, attempt = (labels.get(label) for label in (ROLE_LABEL, STAGE_LABEL, ATTEMPT_LABEL))
    if role not in {str(step.role) for step in steps}:
        raise ValueError(_label_problem(ROLE_LABEL, role, "which is not a role"))
    step = Step(Role(role), stage)
    if step not in steps:
        raise ValueError(_label_problem(STAGE_LABEL, stage, f"but the owner has no step {str(step)!r}"))
    if attempt is None or not _ATTEMPT.fullmatch(attempt):
        raise ValueError(_label_problem(ATTEMPT_LABEL, attempt, "which is not the number of an attempt"))
    return step, int(attempt)


def _label_problem(label: str, value: str | None, problem: str) -> str:
    if value is None:
        return f"the Job's label {label} is missing"
    return f"the Job's label {label} is {value!r}, {problem}"


def _pod(obj: Object, view: View) -> Pod:
    meta, status = obj["metadata"], obj.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions", [])}
    ours = (c for c in status.get("containerStatuses", []) if c["name"] == CONTAINER)  # sidecars may be added
    container: dict[str, Any] = next(ours, {})
    state = container.get("state", {})
    ended, waiting = state.get("terminated", {}), state.get("waiting", {})
    started = ended.get("startedAt") or state.get("running", {}).get("startedAt")
    scheduled, disruption = conditions.get("PodScheduled", {}), conditions.get("DisruptionTarget", {})
    return Pod(
        key=Key.of(obj),
        uid=meta["uid"],
        created=datetime.fromisoformat(meta["creationTimestamp"]),
        phase=status.get("phase", "Pending"),
        started=_time(started),
        finished=_time(ended.get("finishedAt")),
        exit_code=ended.get("exitCode"),
        oom_killed=ended.get("reason") == "OOMKilled",
        image=container.get("imageID", ""),
        text=ended.get("message", ""),
        waiting_reason=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        unschedulable=scheduled.get("message", "") if scheduled.get("status") == "False" else "",
        ended_by=status.get("reason", "") or disruption.get("reason", ""),
        ended_message=status.get("message", "") or disruption.get("message", ""),
        due_to_end=_time(meta.get("deletionTimestamp")),
        looked_up=_looked_up(view, meta["uid"]),
    )


def _looked_up(view: View, uid: str) -> LookedUp | None:
    """Return the result of the last look-up of an object's Events; None if they were not looked up."""
    found = view.events_about(uid)
    if found is None:
        return None
    newest = max(found.events, key=event_time, default=None)
    if newest is None:
        return LookedUp(found.asked)
    return LookedUp(
        asked=found.asked,
        is_warning=newest.get("type") == "Warning",
        reason=newest.get("reason", ""),
        message=newest.get("message", ""),
    )


def _time(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value) if value else None
