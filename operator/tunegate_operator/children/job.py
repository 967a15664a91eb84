"""Build the batch/v1 Job of one attempt, for a controller of any kind. Pure: no client, no cluster.

The controller gives the owner, the step and a :class:`PodNeeds`. This module adds what all child Jobs have in
common: names, labels, restarts, the report address and the security settings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tunegate_api import API_VERSION, GROUP
from tunegate_api.contract.process import (
    DEFAULT_ROOT,
    LOCAL_ADDRESSES_VARIABLE,
    MASTER_VARIABLE,
    NODE_VARIABLE,
    PERMANENT_EXIT_CODES,
    Role,
)
from tunegate_api.contract.report import REPORT_CA_VARIABLE, REPORT_URL_VARIABLE, report_path
from tunegate_api.v1alpha2.pods import PodTemplate
from tunegate_operator.children.pod_template import with_user_settings
from tunegate_operator.children.volumes import PodVolumes
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.owners import Owner
from tunegate_operator.names import (
    ATTEMPT_LABEL,
    CONTAINER,
    MANAGED_LABELS,
    ROLE_LABEL,
    STAGE_LABEL,
    Step,
    attempt_name,
    nodes_name,
)

BACKOFF_LIMIT = 3
"""How many times the pod of an attempt may be restarted: the ``backoffLimit`` of its Job."""
GRACE_SECONDS = 120
"""Default termination grace period: the time in which a pod saves and reports after SIGTERM."""
MASTER_PORT = 29500
"""Port on which the first pod of a multi-pod Job listens for the other pods."""
_LOCAL_PORTS = range(20000, 30000)
"""Range that replaces ``MASTER_PORT`` on a laptop, where all jobs share one address. It is below the usual
ephemeral port range."""
POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "fsGroup": 65532,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
"""Security contexts that meet the Pod Security standard "restricted"."""
INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
"""Label with the index of a pod in an Indexed Job. The Job controller sets it."""


@dataclass(frozen=True)
class JobOwner:
    """The object that child Jobs belong to."""

    kind: str
    """The kind of the owner, such as FineTuneJob."""
    name: str
    namespace: str
    uid: str
    labels: Mapping[str, str]
    """Labels that select the owner's children. Children also get MANAGED_LABELS."""

    @property
    def as_owner(self) -> Owner:
        return Owner(Key(self.kind, self.namespace, self.name), self.uid, GROUP)

    def metadata(self, name: str) -> Object:
        """Return the metadata of an object called ``name`` that belongs to this owner."""
        return {
            "name": name,
            "namespace": self.namespace,
            "labels": MANAGED_LABELS | dict(self.labels),
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": self.kind,
                    "name": self.name,
                    "uid": self.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        }


@dataclass(frozen=True)
class ReportTo:
    """Where pods send reports: the operator's HTTPS address, and the certificate authority that signed the
    operator's serving certificate."""

    url: str
    authority: str
    """The authority's certificate in PEM format."""


@dataclass(frozen=True)
class PodSettings:
    """Settings that apply to every pod: the trainer image, the report address, and where pods run."""

    image: str
    report_to: ReportTo | None = None
    """The address for reports; None where reports are only files, as on a laptop."""
    secrets_needed: bool = True
    """Whether a pod waits for a Secret that does not exist. False on a laptop, where the credentials may be
    in the user's environment instead."""
    on_one_machine: bool = False
    """Whether all pods run on this machine, as on a laptop: they share its network and its files, and have no
    DNS names. They may connect to servers on this machine."""
    allowed_local_addresses: tuple[str, ...] = ()
    """The networks among loopback and link-local addresses to which pods in a cluster may connect."""

    def command_arguments(self, name: str, namespace: str) -> str:
        """Return the arguments that name a job in a ``tunegate`` command. On a laptop, there are no
        namespaces."""
        return name if self.on_one_machine else f"{name} --namespace {namespace}"


@dataclass(frozen=True)
class PodNeeds:
    """What a controller decides about the pods of an attempt."""

    image: str
    volumes: PodVolumes
    args: tuple[str, ...] = ()
    """Arguments of the trainer that follow the role, ``--stage`` and ``--attempt``."""
    environment: tuple[Object, ...] = ()
    """Environment variables in addition to those that :func:`build_job` sets."""
    resources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The container's ``limits`` and ``requests``. A CPU limit also sets the number of PyTorch's threads."""
    grace_seconds: int = GRACE_SECONDS
    nodes: int = 1
    """How many pods run at the same time. More than 1 makes a multi-pod Job, whose pods train one model."""
    deadline_seconds: int | None = None
    """Deadline of the attempt's Job, including the wait for its pod; None for no deadline."""
    report_key: str | None = None
    """The uid of the object that the pods' reports are about; None for pods that send no reports."""
    user_settings: PodTemplate | None = None


def build_job(owner: JobOwner, step: Step, attempt: int, needs: PodNeeds, settings: PodSettings) -> Object:
    """Build the Job that runs one attempt of one step."""
    name = attempt_name(owner.name, owner.uid, step.role, step.stage, attempt, is_indexed=needs.nodes > 1)
    metadata = owner.metadata(name)
    labels = metadata["labels"] | {ROLE_LABEL: step.role, ATTEMPT_LABEL: str(attempt)}
    if step.stage:
        labels[STAGE_LABEL] = step.stage
    template = _pod_template(owner, step, attempt, needs, settings)
    template = {"metadata": {"labels": labels}, "spec": template}
    deadline = needs.deadline_seconds
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata | {"labels": labels},
        "spec": {
            **(_indexed(needs.nodes) if needs.nodes > 1 else {"backoffLimit": BACKOFF_LIMIT}),
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": _failure_policy(needs.nodes),
            **({} if deadline is None else {"activeDeadlineSeconds": deadline}),
            "template": with_user_settings(template, needs.user_settings)
            if needs.user_settings
            else template,
        },
    }


def _pod_template(
    owner: JobOwner, step: Step, attempt: int, needs: PodNeeds, settings: PodSettings
) -> Object:
    """Build the spec of the attempt's pods, without the user's settings."""
    stage_args = ["--stage", step.stage] if step.stage else []
    container: Object = {
        "name": CONTAINER,
        "image": needs.image,
        "command": ["python", "-m", "tunegate_trainer"],
        "args": [str(step.role), *stage_args, "--attempt", str(attempt), *needs.args],
        "env": [
            *_report_address(needs, settings),
            *_local_addresses(settings),
            *_threads(needs),
            *(_master(owner, step, attempt, settings) if needs.nodes > 1 else []),
            *needs.environment,
        ],
        "volumeMounts": needs.volumes.mounts,
        "terminationMessagePath": f"{DEFAULT_ROOT}/termination.json",
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": CONTAINER_SECURITY,
    }
    if needs.resources:
        container["resources"] = needs.resources
    return {
        **({"subdomain": nodes_name(owner.name, owner.uid)} if needs.nodes > 1 else {}),
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": needs.grace_seconds,
        "securityContext": POD_SECURITY,
        "containers": [container],
        "volumes": needs.volumes.volumes,
    }


def build_nodes_service(owner: JobOwner, role: Role) -> Object:
    """Build the headless Service that gives each pod of a multi-pod Job a DNS name, even before the pod is
    ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owner.metadata(nodes_name(owner.name, owner.uid)),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {**owner.labels, ROLE_LABEL: role.value},
            "ports": [{"name": "training", "port": MASTER_PORT}],
        },
    }


def _indexed(nodes: int) -> Object:
    """Return the fields of a Job that runs all pods at the same time and fails if one pod fails: see
    :mod:`.multi_pod`."""
    return {"completionMode": "Indexed", "completions": nodes, "parallelism": nodes, "backoffLimit": 0}


def _failure_policy(nodes: int) -> Object:
    """Return the pod failure policy: evictions do not count as restarts, permanent exit codes fail the Job at
    once, and every other failure counts as a restart.

    For a multi-pod Job, evictions have no rule, because its pods cannot be replaced one by one: see
    :mod:`tunegate_operator.children.multi_pod`.
    """
    evicted = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    codes = {"containerName": CONTAINER, "operator": "In", "values": PERMANENT_EXIT_CODES}
    permanent = {"action": "FailJob", "onExitCodes": codes}
    return {"rules": [evicted, permanent] if nodes == 1 else [permanent]}


def _report_address(needs: PodNeeds, settings: PodSettings) -> list[Object]:
    if settings.report_to is None or needs.report_key is None:
        return []
    url = settings.report_to.url + report_path(needs.report_key)
    return [
        {"name": REPORT_URL_VARIABLE, "value": url},
        {"name": REPORT_CA_VARIABLE, "value": settings.report_to.authority},
    ]


def _local_addresses(settings: PodSettings) -> list[Object]:
    if settings.on_one_machine:
        return []
    return [{"name": LOCAL_ADDRESSES_VARIABLE, "value": ",".join(settings.allowed_local_addresses)}]


def _threads(needs: PodNeeds) -> list[Object]:
    """Return the environment variable that limits PyTorch's threads to the pod's CPU limit, if there is one.
    By default, PyTorch starts one thread per core of the node."""
    if "cpu" not in needs.resources.get("limits", {}):
        return []
    limit = {"containerName": CONTAINER, "resource": "limits.cpu", "divisor": "1"}
    return [{"name": "OMP_NUM_THREADS", "valueFrom": {"resourceFieldRef": limit}}]


def _master(owner: JobOwner, step: Step, attempt: int, settings: PodSettings) -> list[Object]:
    """Return the environment variables of a multi-pod Job: the address of the first pod, and the pod's
    index."""
    name = attempt_name(owner.name, owner.uid, step.role, step.stage, attempt, is_indexed=True)
    host, port = f"{name}-0.{nodes_name(owner.name, owner.uid)}", MASTER_PORT
    if settings.on_one_machine:  # other jobs listen on the same address
        host, port = "127.0.0.1", _LOCAL_PORTS[(int(owner.uid[:5], 16) + attempt) % len(_LOCAL_PORTS)]
    return [
        {"name": MASTER_VARIABLE, "value": f"{host}:{port}"},
        {
            "name": NODE_VARIABLE,
            "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX_LABEL}']"}},
        },
    ]
