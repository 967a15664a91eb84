"""Build and read the status of a pod with one container, in the form that a kubelet writes. Pure."""

from datetime import datetime

from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.objects import timestamp

DISRUPTION = "DisruptionTarget"
NODE_SHUTDOWN = "TerminationByKubelet"
TERMINAL_PHASES = ("Succeeded", "Failed")
SUCCESS_REASON, ERROR_REASON = "Completed", "Error"


def phase(pod: Object) -> str:
    """Return the phase of a pod: Pending, Running, Succeeded or Failed."""
    current: str = pod.get("status", {}).get("phase", "Pending")
    return current


def is_terminal(pod: Object) -> bool:
    """Whether a pod has ended, so that its container will not run again."""
    return phase(pod) in TERMINAL_PHASES


def container_state(pod: Object, name: str) -> Object:
    """Return the state of a container: a dict with one of the keys waiting, running and terminated, or none
    before the node knows the pod. Other containers of the pod, such as sidecars, are ignored."""
    statuses = pod.get("status", {}).get("containerStatuses", ())
    states: list[Object] = [one["state"] for one in statuses if one["name"] == name]
    return states[0] if states else {}


def exit_code(pod: Object) -> int | None:
    """Return the exit code of a pod's container; None if the container has not ended."""
    for container in pod.get("status", {}).get("containerStatuses", ()):
        terminated = container["state"].get("terminated")
        if terminated:
            code: int = terminated["exitCode"]
            return code
    return None


def finished_at(pod: Object) -> str | None:
    """Return the time at which a pod's container ended; None if it has not ended."""
    for container in pod.get("status", {}).get("containerStatuses", ()):
        time: str | None = container["state"].get("terminated", {}).get("finishedAt")
        if time:
            return time
    return None


def waiting(pod: Object, reason: str, message: str, now: datetime) -> Object:
    """Build the status of a pod whose container cannot start yet."""
    state = {"waiting": {"reason": reason, "message": message}}
    return _status(pod, "Pending", state, ready=False, now=now)


def unschedulable(pod: Object, message: str, now: datetime) -> Object:
    """Build the status of a pod that does not fit any node yet."""
    condition = _condition("PodScheduled", False, pod, now) | {"reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [condition]}


def running(pod: Object, now: datetime) -> Object:
    return _status(pod, "Running", {"running": {"startedAt": timestamp(now)}}, ready=True, now=now)


def terminated(
    pod: Object,
    code: int,
    message: str,
    now: datetime,
    *,
    reason: str | None = None,
    disruption: str | None = None,
) -> Object:
    """Build the status of a pod whose container ended. ``disruption`` is the message of a node shutdown that
    ended the pod; None if there was none."""
    containers = pod.get("status", {}).get("containerStatuses") or [{"state": {}}]
    started = containers[0]["state"].get("running", {}).get("startedAt", timestamp(now))
    state: Object = {
        "exitCode": code,
        "reason": reason or (ERROR_REASON if code else SUCCESS_REASON),
        "startedAt": started,
        "finishedAt": timestamp(now),
    }
    if message:
        state["message"] = message
    failed = code != 0
    status = _status(pod, "Failed" if failed else "Succeeded", {"terminated": state}, ready=False, now=now)
    if failed and disruption:
        status["conditions"].append(
            _condition(DISRUPTION, True, pod, now) | {"reason": NODE_SHUTDOWN, "message": disruption}
        )
    return status


def _status(pod: Object, phase: str, state: Object, *, ready: bool, now: datetime) -> Object:
    container = pod["spec"]["containers"][0]
    conditions = {
        "PodScheduled": True,
        "Initialized": True,
        "ContainersReady": ready,
        "Ready": ready,
    }
    return {
        "phase": phase,
        "conditions": [_condition(type, holds, pod, now) for type, holds in conditions.items()],
        "startTime": pod.get("status", {}).get("startTime", timestamp(now)),
        "containerStatuses": [
            {
                "name": container["name"],
                "image": container.get("image", ""),
                "ready": ready,
                "restartCount": 0,
                "started": "running" in state,
                "state": state,
            }
        ],
    }


def _condition(type: str, holds: bool, pod: Object, now: datetime) -> Object:
    status = "True" if holds else "False"
    for old in pod.get("status", {}).get("conditions", ()):
        if old["type"] == type and old["status"] == status:
            return {"type": type, "status": status, "lastTransitionTime": old["lastTransitionTime"]}
    return {"type": type, "status": status, "lastTransitionTime": timestamp(now)}
