"""Read a file of a job, such as its report, from its volume on a cluster, with a pod that prints the file to
its log.

A user may read logs without permission to run commands in pods. The pod prints the file compressed and with
its digest, and refuses one that a node would rotate out of the log.
"""

import gzip
import hashlib
import secrets
import time
import zlib
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath

from pydantic import ValidationError
from pydantic_core import from_json

from tunegate_api.contract.process import Role
from tunegate_api.contract.workspace import Workspace
from tunegate_api.v1alpha2.pods import PodTemplate
from tunegate_client.places.client import ClientError, has_ended, has_log, sorted_events
from tunegate_operator.children.job import CONTAINER_SECURITY, POD_SECURITY
from tunegate_operator.children.pod_status import container_state
from tunegate_operator.children.pod_template import for_role, with_user_settings
from tunegate_operator.children.volumes import ROOT, PodVolumes
from tunegate_operator.engine.cluster import ClusterError, Key, Object
from tunegate_operator.engine.kubernetes import REQUEST_SECONDS, KubernetesCluster
from tunegate_operator.engine.objects import uid_of
from tunegate_operator.names import CONTAINER, JOB_LABEL, REQUEST_KEY, child_name, request_name

WAIT_SECONDS = 180.0
"""How long to wait until the pod has read the file, without the time in which its image is pulled."""
PULL_SECONDS = 1200.0
"""How long to wait in total if the node pulls the image, which has several GB."""
POD_SECONDS = 1260
"""Deadline of the pod, after which the cluster ends it even if the command was killed."""
POLL_SECONDS = 0.5
NOTICE_SECONDS = 10.0
"""Seconds after which the user gets a notice about what the pod waits for."""
MOST_CHARACTERS = 7 * 1024 * 1024
"""The most characters that the pod prints. By default, a kubelet rotates a log at 10 MiB."""
_RESOURCES = {"limits": {"memory": "512Mi"}, "requests": {"cpu": "100m", "memory": "256Mi"}}
_PULL_REASONS = ("Pulling", "Pulled", "Failed", "BackOff")
"""Reasons of the Events that a kubelet records about an image. "Pulling" is followed by one of the others."""
_MISSING, _TOO_LARGE, _FOUND, _PART = "missing", "too-large", "found", "+"
PROGRAM = f"""
import base64, gzip, hashlib, sys
path, most = sys.argv[1], int(sys.argv[2])
try:
    with open(path, "rb") as file:
        content = file.read()
except FileNotFoundError:
    sys.exit(print("{_MISSING}"))
packed = base64.b64encode(gzip.compress(content)).decode()
if len(packed) > most:
    sys.exit(print("{_TOO_LARGE}", len(content)))
print("{_FOUND}", hashlib.sha256(content).hexdigest())
for start in range(0, len(packed), 8192):
    print("{_PART}" + packed[start:start + 8192])
"""
"""The program that the pod runs. Each of its lines begins with one of the words above; other lines of the log
come from elsewhere."""


@dataclass(frozen=True)
class VolumeFile:
    """A file of a job on its volume."""

    path: Callable[[Workspace], PurePosixPath]
    name: str
    """What the file is, for messages."""
    written: str
    """When the file is written, for messages."""


REPORT = VolumeFile(lambda paths: paths.report, "report", "after the first evaluation")
REVIEW_SAMPLE = VolumeFile(
    lambda paths: paths.review_sample, "review sample", "after the data checks, if spec.data.quality is set"
)


def read_file(
    cluster: KubernetesCluster, job: Object, file: VolumeFile, notice: Callable[[str], None]
) -> str:
    """Return the content of a job's file. ``notice`` is called with what the pod waits for.

    Raises ClientError and ClusterError. The pod is deleted in any case."""
    built = _build_pod(cluster, job, file)
    with _deleted_afterwards(cluster, Key.of(built), notice):
        pod = cluster.create(built)
        ended = _wait_for(cluster, pod, file, notice)
        if not has_log(ended):
            raise ClientError(f"pod {pod['metadata']['name']} ended before it started: {_end_of(ended)}")
        lines = cluster.read_log(Key.of(pod), {"container": CONTAINER}, REQUEST_SECONDS)
        return parse(job, pod, file, [line.decode(errors="replace").rstrip("\n") for line in lines])


@contextmanager
def _deleted_afterwards(
    cluster: KubernetesCluster, pod: Key, notice: Callable[[str], None]
) -> Iterator[None]:
    """Delete a pod with a unique name, also if its creation was interrupted before the server answered."""
    try:
        yield
    finally:
        try:
            created = cluster.get(pod)
            if created:
                cluster.delete(pod, uid_of(created))
        except ClusterError as error:
            notice(
                f"pod {pod.name} may still exist, because it could not be deleted: {error}; delete it with: "
                f"kubectl delete pod {pod.name} --namespace {pod.namespace}"
            )


def _build_pod(cluster: KubernetesCluster, job: Object, file: VolumeFile) -> Object:
    """Build the pod that prints the file. Raises ClientError if the job cannot have the file yet."""
    metadata, spec = job["metadata"], job["spec"]
    name, uid = metadata["name"], metadata["uid"]
    volumes = PodVolumes()
    volumes.add_claim("workspace", spec["storage"]["persistentVolumeClaim"], ROOT / "workspace")
    container = {
        "name": CONTAINER,
        "image": _image(cluster, job, file),
        "command": ["python", "-I", "-c", PROGRAM],
        "args": [str(ROOT / "workspace" / file.path(Workspace(uid))), str(MOST_CHARACTERS)],
        "env": [],
        "resources": _RESOURCES,
        "volumeMounts": volumes.mounts,
        "securityContext": CONTAINER_SECURITY,
    }
    template: Object = {
        "metadata": {"labels": {"app.kubernetes.io/name": "tunegate-file-reader"}},
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": POD_SECONDS,
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "affinity": {"podAffinity": _near(name)},
            "securityContext": POD_SECURITY,
            "containers": [container],
            "volumes": volumes.volumes,
        },
    }
    settings = _user_settings(job)
    template = with_user_settings(template, settings) if settings else template
    owner = {field: job[field] for field in ("apiVersion", "kind")} | {"name": name, "uid": uid}
    place = {
        "name": child_name(name, uid, "read", secrets.token_hex(3)),
        "namespace": metadata["namespace"],
        "ownerReferences": [owner],  # if the command is killed, the pod is deleted with the job
    }
    return {"apiVersion": "v1", "kind": "Pod", **template, "metadata": template["metadata"] | place}


def _near(job: str) -> Object:
    """Return an affinity that prefers the node on which a pod of the job runs, because a ReadWriteOnce volume
    can be mounted there only."""
    term = {"labelSelector": {"matchLabels": {JOB_LABEL: job}}, "topologyKey": "kubernetes.io/hostname"}
    return {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]}


def _image(cluster: KubernetesCluster, job: Object, file: VolumeFile) -> str:
    """Return the trainer image that the job's pods use, which nodes and registry have. Raises ClientError if
    the job has not started."""
    metadata, plan = job["metadata"], job.get("status", {}).get("plan")
    if plan is None:
        phase = job.get("status", {}).get("phase", "Pending")
        raise ClientError(
            f"FineTuneJob {metadata['name']} has no {file.name} yet: it is in phase {phase}, and its "
            "data is not prepared"
        )
    name = request_name(metadata["name"], metadata["uid"])
    record = cluster.get(Key("ConfigMap", metadata["namespace"], name))
    recorded = from_json(record["data"][REQUEST_KEY]).get("trainerImage") if record else None
    image: str | None = recorded or plan.get("image")
    if image is None:
        raise ClientError(f"the trainer image of FineTuneJob {metadata['name']} is not recorded")
    return image


def _user_settings(job: Object) -> PodTemplate | None:
    """Return the settings in ``podTemplate`` that decide where and how the pod is scheduled."""
    wanted = job["spec"].get("podTemplate")
    try:
        return for_role(PodTemplate.model_validate(wanted), Role.CLEANUP) if wanted else None
    except ValidationError as error:
        raise ClientError(
            "spec.podTemplate was written for another version of Tunegate: install the version of the "
            f"operator. {error}"
        ) from error


def _wait_for(
    cluster: KubernetesCluster, pod: Object, file: VolumeFile, notice: Callable[[str], None]
) -> Object:
    """Return the pod when it has ended. Call ``notice`` when it waits for something else than before."""
    key, started, noticed = Key.of(pod), time.monotonic(), ""
    deadline = started + WAIT_SECONDS
    while True:
        current = cluster.get(key)
        if current is None or uid_of(current) != uid_of(pod):
            raise ClientError(f"pod {key.name} was deleted before it had read the {file.name}: try again")
        if has_ended(current):
            return current
        now = time.monotonic()
        if now - started > NOTICE_SECONDS:
            why, is_pulling = _why_waiting(cluster, current)
            if is_pulling:
                deadline = max(deadline, min(now + WAIT_SECONDS, started + PULL_SECONDS))
            if now > deadline:
                raise ClientError(
                    f"pod {key.name} has not read the {file.name} after {now - started:.0f} s: {why}"
                )
            if why != noticed:
                notice(f"waiting for pod {key.name}: {why}")
                noticed = why
        time.sleep(POLL_SECONDS)


def _why_waiting(cluster: KubernetesCluster, pod: Object) -> tuple[str, bool]:
    """Return what a pod waits for, from its status or else from its newest Event, and whether the node pulls
    its image."""
    for condition in pod.get("status", {}).get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"{condition.get('reason')}: {condition.get('message')}", False
    waiting = container_state(pod, CONTAINER).get("waiting", {})
    if waiting.get("message"):
        return f"{waiting.get('reason')}: {waiting['message']}", False
    events = sorted_events(cluster.list_events(pod["metadata"]["namespace"], uid_of(pod)))
    if not events:
        return str(waiting.get("reason") or pod.get("status", {}).get("phase", "Pending")), False
    pulls = [event["reason"] for event in events if event.get("reason") in _PULL_REASONS]
    is_pulling = bool(waiting) and pulls[-1:] == ["Pulling"]
    return f"{events[-1].get('reason')}: {events[-1].get('message')}", is_pulling


def _end_of(pod: Object) -> str:
    """Return why the cluster ended a pod."""
    status = pod.get("status", {})
    return f"{status.get('reason', 'unknown')}: {status.get('message', '')}"


def parse(job: Object, pod: Object, file: VolumeFile, lines: list[str]) -> str:
    """Return the file in the pod's log. Raises ClientError if it is missing or not complete."""
    name, digest, packed = job["metadata"]["name"], "", []
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == _MISSING:
            raise ClientError(
                f"FineTuneJob {name} has no {file.name} on its volume: it is written {file.written}"
            )
        if word == _TOO_LARGE:
            raise ClientError(
                f"the {file.name} of FineTuneJob {name} has {rest} bytes, too many for the log of a pod: "
                'copy it from the volume, see "Other files" in docs/status.md'
            )
        if word == _FOUND:
            digest = rest
        elif line.startswith(_PART):
            packed.append(line.removeprefix(_PART))
    try:
        content = gzip.decompress(b64decode("".join(packed)))
    except (OSError, EOFError, zlib.error, ValueError):  # ValueError: it is not Base64
        content = b""
    if not digest or hashlib.sha256(content).hexdigest() != digest:
        log = "\n".join(line for line in lines if not line.startswith(_PART))[-1000:]
        raise ClientError(
            f"pod {pod['metadata']['name']} did not print the whole {file.name}: {log or 'no output'}"
        )
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ClientError(
            f"the {file.name} of FineTuneJob {name} on its volume is damaged, it is not UTF-8: {error}"
        ) from error
