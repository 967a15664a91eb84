"""What is known about a FineTuneJob: its spec and status, its children, and what they reported."""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import ValidationError

from tunegate_api.contract import Report, Request, Results, Role, Termination, tells_most
from tunegate_api.meta import StatusModel
from tunegate_api.plan import Plan
from tunegate_api.v1alpha1 import EvalGate, FineTuneJob
from tunegate_operator.children.pod_status import is_terminal
from tunegate_operator.children.volumes import input_config_maps
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.controller import Refusal, View
from tunegate_operator.finetunejob.build import CONTAINER, Step, node_count
from tunegate_operator.names import (
    ATTEMPT_LABEL,
    JOB_LABEL,
    PLAN_KEY,
    REQUEST_KEY,
    RESULTS_KEY,
    ROLE_LABEL,
    STAGE_LABEL,
    plan_name,
    request_name,
    results_name,
)

ModelT = TypeVar("ModelT", bound=StatusModel)
_ATTEMPT = re.compile("[1-9][0-9]{0,5}")


class UnreadableRecordError(Exception):
    """A ConfigMap of a job is not what an operator of this version writes."""

    def __init__(self, config_map: str, problem: str) -> None:
        super().__init__(f"ConfigMap {config_map} cannot be read: {problem}")


class ChildState(StrEnum):
    ACTIVE = "Active"
    COMPLETE = "Complete"
    FAILED = "Failed"


@dataclass(frozen=True)
class Told:
    """What a look-up of an object's Events found: the newest one."""

    asked: datetime
    is_warning: bool = False
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class Pod:
    """The part of a pod that decisions need."""

    key: Key
    uid: str
    created: datetime
    phase: str
    started: datetime | None = None
    """When its container started."""
    finished: datetime | None = None
    exit_code: int | None = None
    oom_killed: bool = False
    image: str = ""
    """What runs in it, by digest; empty before it runs, and where there are no images."""
    text: str = ""
    """The termination message: ours as JSON, or the end of the log."""
    waiting_reason: str = ""
    waiting_message: str = ""
    unschedulable: str = ""
    ended_by: str = ""
    """Why the cluster ends it, if it does: the reason of the pod, or of its DisruptionTarget condition."""
    ended_message: str = ""
    due_to_end: datetime | None = None
    """When it should have ended, if it is being deleted."""
    told: Told | None = None

    def running_seconds(self, now: datetime) -> int:
        """How long its container ran, or has run by ``now``."""
        return max(0, round(((self.finished or now) - self.started).total_seconds())) if self.started else 0

    @property
    def termination(self) -> Termination | None:
        """Our own words, if the process came to say them."""
        try:
            return Termination.model_validate_json(self.text)
        except ValidationError:
            return None


@dataclass(frozen=True)
class Child:
    """One child Job: one attempt of one step."""

    key: Key
    uid: str
    created: datetime
    step: Step
    attempt: int
    state: ChildState
    failure_reason: str
    """Kubernetes' reason of the Job's Failed condition."""
    finished: datetime | None
    deleting: bool
    pods: tuple[Pod, ...]
    """Oldest first."""
    told: Told | None = None
    nodes: int = 1
    """How many of them run at the same time, and train together."""

    @property
    def telling_pod(self) -> Pod | None:
        """The pod that says how the child fares: the newest, or of those that train together the one whose
        end explains the others'."""
        if self.nodes == 1:
            return self.pods[-1] if self.pods else None
        return max(self.pods, key=_tells, default=None)

    @property
    def started(self) -> datetime | None:
        """When the first container started: waiting for a queue or a node is no running time."""
        return min((pod.started for pod in self.pods if pod.started), default=None)

    def running_seconds(self, now: datetime, counted_until: datetime | None) -> int:
        """How long containers ran, or have run by ``now``, of pods created after ``counted_until``. Pods that
        train together run for as long as the longest of them."""
        counted = [
            pod.running_seconds(now)
            for pod in self.pods
            if counted_until is None or pod.created > counted_until
        ]
        return sum(counted) if self.nodes == 1 else max(counted, default=0)

    @property
    def is_running(self) -> bool:
        """Whether as many pods as it needs run, not only wait; or succeeded: the Job will notice."""
        return sum(pod.phase in ("Running", "Succeeded") for pod in self.pods) >= self.nodes


def _tells(pod: Pod) -> float:
    """How much a pod says about the fate of all that train together; see :func:`tells_most`."""
    if pod.oom_killed:
        return 5
    if pod.phase != "Failed":
        return -1 if pod.phase == "Running" else 0
    ended = pod.termination
    says = tells_most(137 if pod.exit_code is None else pod.exit_code, ended.failure if ended else None)
    return max(says, 2.5) if pod.ended_by else says


@dataclass(frozen=True)
class Stranger:
    """A Job that names a FineTuneJob as its owner, and whose labels are those of none of its attempts."""

    name: str
    problem: str


@dataclass(frozen=True)
class EarlierJob:
    """The job whose model another one starts from."""

    job: FineTuneJob
    plan: Plan | None
    problem: str = ""
    """Why there is no plan, where it is there and cannot be read."""


@dataclass(frozen=True)
class Observed:
    """Everything a decision is made from. Nothing here is fetched later."""

    job: FineTuneJob
    gates: dict[str, EvalGate | None]
    """The gates that the spec names; None where there is none."""
    missing_config_maps: tuple[str, ...]
    start_from: EarlierJob | None
    """The job that ``model.startFrom`` names; None where there is none."""
    request: Request | None
    plan: Plan | None
    results: Results
    """As recorded; reports may know more."""
    children: tuple[Child, ...]
    strangers: tuple[Stranger, ...]
    """Ignored: nothing is decided from them."""
    reports: tuple[Report, ...]
    refusal: Refusal | None
    """Why the cluster did not create a child when it was last asked to."""
    has_pods: bool = False
    """Of a job whose trackers are behind: whether a pod of it has not ended yet, its Job deleted or not."""

    def attempts_of(self, step: Step) -> list[Child]:
        """The child Jobs of a step that are not being deleted, by attempt."""
        return sorted(
            (c for c in self.children if c.step == step and not c.deleting), key=lambda c: c.attempt
        )

    def report_of(self, step: Step) -> Report | None:
        return next((r for r in self.reports if (r.role, r.stage) == (step.role, step.stage)), None)


def observe(obj: Object, view: View) -> Observed:
    """Gather what the cache knows about a FineTuneJob whose spec has no problems.

    Raises :class:`UnreadableRecordError` for a request, plan or results that somebody edited or another
    version wrote.
    """
    job = FineTuneJob.model_validate(obj)
    meta = job.metadata
    names = {g.name for g in job.spec.gates} | {g.name for s in job.spec.stages for g in s.gates or []}
    gates = {name: _gate(view.get(Key("EvalGate", meta.namespace, name))) for name in sorted(names)}
    config_maps = input_config_maps(job.spec, [g.spec for g in gates.values() if g])
    found = [_child(child, job, view) for child in view.children(obj, "Job")]
    return Observed(
        job=job,
        gates=gates,
        missing_config_maps=tuple(
            name for name in config_maps if not view.has(Key("ConfigMap", meta.namespace, name))
        ),
        start_from=_earlier_job(view, job),
        request=_recorded(view, job, request_name(meta.name, meta.uid), REQUEST_KEY, Request),
        plan=_recorded(view, job, plan_name(meta.name, meta.uid), PLAN_KEY, Plan),
        results=_recorded(view, job, results_name(meta.name, meta.uid), RESULTS_KEY, Results) or Results(),
        children=tuple(child for child in found if isinstance(child, Child)),
        strangers=tuple(child for child in found if isinstance(child, Stranger)),
        reports=tuple(Report.model_validate(report) for report in view.reports(meta.uid)),
        refusal=view.refusal(meta.uid),
        has_pods=job.status.tracking is not None and _has_pods(meta.namespace, meta.name, view),
    )


def _has_pods(namespace: str, name: str, view: View) -> bool:
    """Whether a pod has not ended whose job has this name."""
    pods = view.of_kind("Pod", namespace)
    return any(
        pod["metadata"].get("labels", {}).get(JOB_LABEL) == name and not is_terminal(pod) for pod in pods
    )


def _gate(obj: Object | None) -> EvalGate | None:
    """A gate with a spec that can't be read counts as not there; its own status says why."""
    try:
        return EvalGate.model_validate(obj) if obj else None
    except ValidationError:
        return None


def _earlier_job(view: View, job: FineTuneJob) -> EarlierJob | None:
    """One that can't be read counts as not there, as a gate does."""
    name, namespace = job.spec.model.start_from, job.metadata.namespace
    found = view.get(Key("FineTuneJob", namespace, name)) if name else None
    try:
        earlier = FineTuneJob.model_validate(found) if found else None
    except ValidationError:
        return None
    if earlier is None:
        return None
    meta = earlier.metadata
    try:
        plan = _recorded(view, earlier, plan_name(meta.name, meta.uid), PLAN_KEY, Plan)
    except UnreadableRecordError as error:
        return EarlierJob(earlier, None, str(error))
    return EarlierJob(earlier, plan)


def _recorded(view: View, job: FineTuneJob, name: str, key: str, model: type[ModelT]) -> ModelT | None:
    """Return what a ConfigMap of the job records, or None. Raises :class:`UnreadableRecordError`."""
    obj = view.get(Key("ConfigMap", job.metadata.namespace, name))
    if obj is None or not _is_owned(obj, job.metadata.uid):
        return None
    text = (obj.get("data") or {}).get(key)
    if text is None:
        raise UnreadableRecordError(name, f"it has no key {key}")
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join([key, *map(str, first["loc"])])
        raise UnreadableRecordError(name, f"{where}: {first['msg']}") from error


def _is_owned(obj: Object, uid: str) -> bool:
    return any(owner["uid"] == uid for owner in obj["metadata"].get("ownerReferences", []))


def _child(obj: Object, job: FineTuneJob, view: View) -> Child | Stranger:
    meta, status = obj["metadata"], obj.get("status", {})
    try:
        step, attempt = _attempt(meta.get("labels") or {}, job)
    except ValueError as error:
        return Stranger(meta["name"], str(error))
    conditions = {c["type"]: c for c in status.get("conditions", []) if c["status"] == "True"}
    if "Complete" in conditions:
        state, finished = ChildState.COMPLETE, _time(status.get("completionTime"))
    elif "Failed" in conditions:
        state, finished = ChildState.FAILED, _time(conditions["Failed"].get("lastTransitionTime"))
    else:
        state, finished = ChildState.ACTIVE, None
    pods = sorted(
        view.children(obj, "Pod"),
        key=lambda p: (p["metadata"]["creationTimestamp"], p["metadata"]["name"]),
    )
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
        pods=tuple(_pod(pod, view) for pod in pods),
        told=_told(view, meta["uid"]),
        nodes=node_count(job, step.role),
    )


def _attempt(labels: dict[str, str], job: FineTuneJob) -> tuple[Step, int]:
    """Which attempt of which step a child's labels name. Raises ValueError for none that a job can have."""
    role, stage, attempt = (labels.get(label) for label in (ROLE_LABEL, STAGE_LABEL, ATTEMPT_LABEL))
    if role not in list(Role):
        raise ValueError(f"its label {ROLE_LABEL} is {_shown(role)}")
    stages = [s.name for s in job.spec.stages] if role == Role.TRAIN else [None]
    if stage not in stages:
        raise ValueError(f"its label {STAGE_LABEL} is {_shown(stage)}")
    if attempt is None or not _ATTEMPT.fullmatch(attempt):
        raise ValueError(f"its label {ATTEMPT_LABEL} is {_shown(attempt)}")
    return Step(Role(role), stage), int(attempt)


def _shown(label: str | None) -> str:
    return "missing" if label is None else repr(label)


def _pod(obj: Object, view: View) -> Pod:
    meta, status = obj["metadata"], obj.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions", [])}
    ours = (c for c in status.get("containerStatuses", []) if c["name"] == CONTAINER)  # others may join it
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
        told=_told(view, meta["uid"]),
    )


def _told(view: View, uid: str) -> Told | None:
    """The newest of the Events that were looked up about an object."""
    found = view.events_about(uid)
    if found is None:
        return None
    newest = max(found.events, key=_event_time, default=None)
    if newest is None:
        return Told(found.asked)
    return Told(
        asked=found.asked,
        is_warning=newest.get("type") == "Warning",
        reason=newest.get("reason", ""),
        message=newest.get("message", ""),
    )


def _event_time(event: Object) -> str:
    """When it was last seen. Clients write one of these fields or another."""
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return next((time for time in times if time), "")


def _time(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value) if value else None
