"""Recognize the pods of a child Job.

Everybody who may create pods in a namespace can name a Job as the owner of a pod, and Kubernetes records
nowhere who created a pod. So a pod counts only if its labels, and the fields of its spec that decide what the
trainer container does, are those in the pod template of its Job. Then the pod does what the operator asked
for, whoever created it: docs/adr/0065-own-pods.md.

The cache keeps no specs of pods, because users choose their size. It keeps a digest of each field instead.

Admission plugins and webhooks change pods, but not the pod templates of Jobs. So the digests leave out what
they add for a web identity or for a sidecar container, which cannot change what the trainer does.
"""

import hashlib
from collections.abc import Iterable, Set
from posixpath import normpath
from typing import Any

from tunegate_api import GROUP
from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.objects import write_json
from tunegate_operator.names import (
    ATTEMPT_LABEL,
    CONTAINER,
    JOB_LABEL,
    ROLE_LABEL,
    STAGE_LABEL,
)

_LABELS = (JOB_LABEL, ROLE_LABEL, STAGE_LABEL, ATTEMPT_LABEL)
"""Labels that a child Job, its pod template and its pods have in common."""
_OPTIONAL = frozenset({"memory"})
"""Fields that a LimitRange sets in pods whose template does not set them."""
_CONTAINER_FIELDS = (
    "image",
    "command",
    "args",
    "workingDir",
    "env",
    "envFrom",
    "volumeMounts",
    "volumeDevices",
    "lifecycle",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "terminationMessagePath",
    "terminationMessagePolicy",
)
_POD_FIELDS = (
    "serviceAccountName",
    "shareProcessNamespace",
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "hostAliases",
    "enableServiceLinks",
    "dnsPolicy",
    "ephemeralContainers",
)
_DEFAULT_ACCOUNT = "default"
"""The account that the API server sets in pods, but not in pod templates."""
_ADDED_VARIABLES = (
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_ROLE_ARN",
    "AWS_STS_REGIONAL_ENDPOINTS",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AZURE_AUTHORITY_HOST",
    "AZURE_CLIENT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_TENANT_ID",
    "JOB_COMPLETION_INDEX",
)
"""Variables that the Job controller and the webhooks of web identities add: IRSA and EKS Pod Identity of
Amazon, and Microsoft Entra Workload ID."""
_ADDED_PREFIX = "DD_"
"""Variables that Datadog adds. They have an effect only with its library, which the trainer image lacks."""
_ADDED_MOUNTS = ("/var/run/secrets/", "/var/run/datadog/")
"""Folders at or below which these webhooks mount tokens and sockets, from which no code is loaded."""


def pod_digests(obj: Object) -> dict[str, str]:
    """Return a digest of each field that decides what the trainer container does, in the spec of a pod or in
    the pod template of a Job. Fields that are not set have no digest."""
    spec = obj["spec"]
    if obj["kind"] == "Job":
        spec = (spec.get("template") or {}).get("spec") or {}
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    ours: Object = next((one for one in spec.get("containers") or () if one.get("name") == CONTAINER), {})
    mounts = [one for one in ours.get("volumeMounts") or () if not _is_added_mount(one)]
    mounted = {one.get("name") for one in mounts}
    found = {field: ours.get(field) for field in _CONTAINER_FIELDS}
    found["env"] = [one for one in ours.get("env") or () if not _is_added_variable(str(one.get("name")))]
    found["volumeMounts"] = mounts
    found["memory"] = ((ours.get("resources") or {}).get("limits") or {}).get("memory")
    found |= {field: spec.get(field) for field in _POD_FIELDS}
    found["serviceAccountName"] = found["serviceAccountName"] or _DEFAULT_ACCOUNT
    # Some clusters add options, such as ndots, which cannot change what a name is resolved to.
    found["dnsConfig"] = {k: v for k, v in (spec.get("dnsConfig") or {}).items() if k != "options"}
    found["volumes"] = [one for one in spec.get("volumes") or () if one.get("name") in mounted]
    shared = mounted | _shared(spec.get("volumes") or (), mounted)
    found["containers"] = [one for one in containers if one is not ours and _mounts(one) & shared]
    return {field: _digest(value) for field, value in found.items() if value}


def pod_problem(pod: Object, job: Object) -> str:
    """Return how ``pod``, as cached, differs from the pods of the child Job that it names as its controlling
    owner; empty if it does not differ."""
    own, its = (obj["metadata"].get("labels") or {} for obj in (pod, job))
    labels = [label for label in _LABELS if own.get(label) != its.get(label)]
    if labels:
        return f"its label {labels[0]} is not that of the Job"
    has, wanted = pod.get("digests", {}), job.get("digests", {})
    fields = {field for field in (*wanted, *has) if has.get(field) != wanted.get(field)}
    fields -= _OPTIONAL - wanted.keys()
    if fields:
        return f"its {', '.join(sorted(fields))} differ from the pod template of the Job"
    return ""


def _is_added_mount(mount: Object) -> bool:
    return f"{normpath(str(mount.get('mountPath')))}/".startswith(_ADDED_MOUNTS)


def _is_added_variable(variable: str) -> bool:
    return variable in _ADDED_VARIABLES or variable.startswith(_ADDED_PREFIX)


def _mounts(container: Object) -> set[Any]:
    """Return the names of the volumes that a container mounts."""
    fields = ("volumeMounts", "volumeDevices")
    return {one.get("name") for field in fields for one in container.get(field) or ()}


def _shared(volumes: Iterable[Object], mounted: Set[Any]) -> set[Any]:
    """Return the names of the volumes with the same claim as one of those in ``mounted``, or with a token for
    reports: another container must not mount them under another name either."""
    claims = {_claim(one) for one in volumes if one.get("name") in mounted} - {None}
    return {one.get("name") for one in volumes if _claim(one) in claims or _has_report_token(one)}


def _claim(volume: Object) -> Any:
    return (volume.get("persistentVolumeClaim") or {}).get("claimName")


def _has_report_token(volume: Object) -> bool:
    sources = (volume.get("projected") or {}).get("sources") or ()
    tokens = [one.get("serviceAccountToken") or {} for one in sources]
    return any(str(token.get("audience")).startswith(f"{GROUP}/") for token in tokens)


def _digest(value: Any) -> str:
    return hashlib.sha256(write_json(value)).hexdigest()[:32]
