"""Pure builders of everything that a FineTuneJob owns: ConfigMaps and batch/v1 Jobs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tunegate_api import API_VERSION
from tunegate_api.baselines import BASELINES_VARIABLE, write_baselines
from tunegate_api.contract import (
    DEFAULT_ROOT,
    MASTER_VARIABLE,
    NODE_VARIABLE,
    PERMANENT_EXIT_CODES,
    REPORT_CA_VARIABLE,
    REPORT_URL_VARIABLE,
    Request,
    Results,
    Role,
    canonical_json,
    report_path,
)
from tunegate_api.meta import StatusModel
from tunegate_api.plan import ModelPlan, Plan, TrainingParameters
from tunegate_api.v1alpha1 import FineTuneJob
from tunegate_api.v1alpha1.evaluation_status import BaselineDigest
from tunegate_operator.children.pod_template import for_role, with_user_settings
from tunegate_operator.children.volumes import pod_volumes
from tunegate_operator.engine.cluster import Object
from tunegate_operator.names import (
    ATTEMPT_LABEL,
    JOB_LABEL,
    MANAGED_LABELS,
    PLAN_KEY,
    REQUEST_KEY,
    RESULTS_KEY,
    ROLE_LABEL,
    STAGE_LABEL,
    attempt_name,
    nodes_name,
    plan_name,
    request_name,
    results_name,
)

CONTAINER = "trainer"
BACKOFF_LIMIT = 3
"""Restarts of a pod within one attempt."""
GRACE_SECONDS = 120
"""Time that a pod gets to save after SIGTERM, and to say so."""
SAVED_BYTES = 24
"""Of each weight that is trained: itself and the two moments of AdamW, in float32, written
and read back for their digests."""
SAVE_BYTES_PER_SECOND = 100_000_000
"""What a slow network volume takes, and gives."""
MEETING_PORT = 29500
"""Where the first of the pods that train together listens for the others."""
_LOCAL_PORTS = range(20000, 30000)
"""The same for processes of one machine: below what systems give to whoever asks for any."""
INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
"""On each pod of an Indexed Job, by the Job controller: its number."""
CHORE_SECONDS = {Role.CLEANUP: 3600, Role.REPORT: 600, Role.TRACK: 600}
"""For how long such a Job may work, and wait for its pod: that of a report is waited for as long as any
other."""
LAPTOP_TRACK_SECONDS = 30
"""For how long trackers are tried where a person waits for the command to end, and can run it again."""
_CHORE_MEMORY = {Role.TRACK: "1Gi"}
"""Where it is not 512Mi: the clients of two trackers take 300 MB, and a long training's points some more."""


@dataclass(frozen=True)
class ReportTo:
    """Where pods report to: the operator's HTTPS address, and the authority that it is certified by."""

    url: str
    authority: str
    """In PEM."""


@dataclass(frozen=True)
class PodSettings:
    """What the operator's settings say about every pod."""

    image: str
    report_to: ReportTo | None = None
    """None where reports are files only, as on a laptop."""
    secrets_needed: bool = True
    """Whether a pod waits for a Secret that does not exist. On a laptop the user's environment may hold what
    would be in it."""
    on_one_machine: bool = False
    """Whether all pods have this machine's network, as on a laptop, and no names of their own; and its
    files."""


@dataclass(frozen=True)
class Step:
    """One thing to run: a role, for training of one stage."""

    role: Role
    stage: str | None = None

    def __str__(self) -> str:
        return f"{self.role} {self.stage}" if self.stage else self.role


def request_config_map(job: FineTuneJob, request: Request) -> Object:
    """What the job asks for, as it was read."""
    meta = job.metadata
    return _config_map(job, request_name(meta.name, meta.uid), REQUEST_KEY, request, immutable=True)


def plan_config_map(job: FineTuneJob, plan: Plan) -> Object:
    """What was resolved before training."""
    meta = job.metadata
    return _config_map(job, plan_name(meta.name, meta.uid), PLAN_KEY, plan, immutable=True)


def results_config_map(job: FineTuneJob, results: Results) -> Object:
    """The outcome of every case, from which every verdict can be computed again."""
    meta = job.metadata
    return _config_map(job, results_name(meta.name, meta.uid), RESULTS_KEY, results, immutable=False)


def child_job(
    job: FineTuneJob,
    request: Request,
    step: Step,
    attempt: int,
    *,
    pods: PodSettings,
    plan: Plan | None = None,
    extra_args: tuple[str, ...] = (),
    baselines: Sequence[BaselineDigest] = (),
) -> Object:
    """The batch/v1 Job that runs one attempt of one step, and may use these cached ``baselines``."""
    if step.role in (Role.CLEANUP, Role.TRACK):  # they say no more than their termination message does
        pods = replace(pods, report_to=None)
    meta = job.metadata
    nodes = node_count(job, step.role)
    name = attempt_name(meta.name, meta.uid, step.role, step.stage, attempt, is_indexed=nodes > 1)
    labels = _labels(job) | {ROLE_LABEL: step.role, ATTEMPT_LABEL: str(attempt)}
    if step.stage:
        labels[STAGE_LABEL] = step.stage
    stage_args = ["--stage", step.stage] if step.stage else []
    volumes, mounts = pod_volumes(
        job,
        request,
        step.role,
        reports=pods.report_to is not None,
        secrets_needed=pods.secrets_needed,
    )
    container: Object = {
        "name": CONTAINER,
        "image": request.trainer_image or pods.image,
        "command": ["python", "-m", "tunegate_trainer"],
        "args": [str(step.role), *stage_args, "--attempt", str(attempt), *extra_args],
        "env": [
            *_environment(job, step.role, pods),
            *(_meeting(job, name, attempt, pods) if nodes > 1 else []),
            # Not an argument: a trainer of an earlier release, which the job may have begun with, refuses
            # arguments that it does not know.
            *([{"name": BASELINES_VARIABLE, "value": write_baselines(baselines)}] if baselines else []),
        ],
        "volumeMounts": mounts,
        "terminationMessagePath": f"{DEFAULT_ROOT}/termination.json",
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    resources = _resources(job, step.role)
    if resources:
        container["resources"] = resources
    template: Object = {
        "metadata": {"labels": labels},
        "spec": {
            **({"subdomain": nodes_name(meta.name, meta.uid)} if nodes > 1 else {}),
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": grace_seconds(job, step, plan),
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "fsGroup": 65532,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": volumes,
        },
    }
    wanted = job.spec.pod_template
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": meta.namespace,
            "labels": labels,
            "ownerReferences": [owner_reference(job)],
        },
        "spec": {
            **(_together(nodes) if nodes > 1 else {"backoffLimit": BACKOFF_LIMIT}),
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": _failure_policy(nodes),
            **({"activeDeadlineSeconds": _chore_seconds(job, step.role, pods)} if step.role.is_chore else {}),
            "template": with_user_settings(template, for_role(wanted, step.role)) if wanted else template,
        },
    }


def _chore_seconds(job: FineTuneJob, role: Role, pods: PodSettings) -> int:
    if role is Role.TRACK and pods.on_one_machine:
        return LAPTOP_TRACK_SECONDS
    waiting = job.spec.start_timeout_seconds if role is Role.REPORT else 0
    return CHORE_SECONDS[role] + waiting


def node_count(job: FineTuneJob, role: Role) -> int:
    """How many pods do a step together."""
    return job.spec.resources.nodes if role is Role.TRAIN else 1


def nodes_service(job: FineTuneJob) -> Object:
    """The headless Service that gives each of the pods that train together a name, before it is ready too."""
    meta = job.metadata
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": nodes_name(meta.name, meta.uid),
            "namespace": meta.namespace,
            "labels": _labels(job),
            "ownerReferences": [owner_reference(job)],
        },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {JOB_LABEL: meta.name, ROLE_LABEL: Role.TRAIN.value},
            "ports": [{"name": "training", "port": MEETING_PORT}],
        },
    }


def _together(nodes: int) -> Object:
    """All pods at once, each with its number. Where one fails the Job has: they begin again together, in the
    next attempt."""
    return {"completionMode": "Indexed", "completions": nodes, "parallelism": nodes, "backoffLimit": 0}


def _meeting(job: FineTuneJob, name: str, attempt: int, pods: PodSettings) -> list[Object]:
    """Where the pods of a Job called ``name`` meet, and which of them each is."""
    meta = job.metadata
    host, port = f"{name}-0.{nodes_name(meta.name, meta.uid)}", MEETING_PORT
    if pods.on_one_machine:  # where other jobs meet too
        host, port = "127.0.0.1", _LOCAL_PORTS[(int(meta.uid[:5], 16) + attempt) % len(_LOCAL_PORTS)]
    return [
        {"name": MASTER_VARIABLE, "value": f"{host}:{port}"},
        {
            "name": NODE_VARIABLE,
            "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX_LABEL}']"}},
        },
    ]


def grace_seconds(job: FineTuneJob, step: Step, plan: Plan | None) -> int:
    """What a pod may take to save and leave: more where more is trained, or as the user said."""
    wanted = job.spec.pod_template
    if wanted and wanted.termination_grace_period_seconds is not None:
        return wanted.termination_grace_period_seconds
    if plan is None or step.role is not Role.TRAIN or step.stage is None:
        return GRACE_SECONDS
    trained = _trained_weights(plan.model, plan.stage(step.stage).parameters)
    return GRACE_SECONDS + trained * SAVED_BYTES // SAVE_BYTES_PER_SECOND


def _trained_weights(model: ModelPlan, parameters: TrainingParameters) -> int:
    """How many weights a stage trains; those of an adapter beside a model of unknown shape count as none."""
    if parameters.adapter == "None":
        return model.parameters
    if model.shape is None:
        return 0
    return model.shape.adapter_weights(parameters.target_modules or [], parameters.lora_r or 0)


def owner_reference(job: FineTuneJob) -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": "FineTuneJob",
        "name": job.metadata.name,
        "uid": job.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _failure_policy(nodes: int) -> Object:
    """Evictions cost nothing; what can't get better fails at once; the rest counts.

    Of pods that train together none is replaced alone: see :mod:`tunegate_operator.finetunejob.together`.
    """
    evicted = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    codes = {"containerName": CONTAINER, "operator": "In", "values": PERMANENT_EXIT_CODES}
    permanent = {"action": "FailJob", "onExitCodes": codes}
    return {"rules": [evicted, permanent] if nodes == 1 else [permanent]}


def _labels(job: FineTuneJob) -> dict[str, str]:
    return MANAGED_LABELS | {JOB_LABEL: job.metadata.name}


def _config_map(job: FineTuneJob, name: str, key: str, content: StatusModel, *, immutable: bool) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": job.metadata.namespace,
            "labels": _labels(job),
            "ownerReferences": [owner_reference(job)],
        },
        "data": {key: canonical_json(content)},
    } | ({"immutable": True} if immutable else {})


def _environment(job: FineTuneJob, role: Role, pods: PodSettings) -> list[Object]:
    """Where to report, and how many threads to start."""
    environment: list[Object] = []
    if pods.report_to:
        url = pods.report_to.url + report_path(job.metadata.uid)
        environment.append({"name": REPORT_URL_VARIABLE, "value": url})
        environment.append({"name": REPORT_CA_VARIABLE, "value": pods.report_to.authority})
    asked = job.spec.resources
    if asked.accelerator == "CPU" and asked.cpu and not role.is_chore:
        # As many as the cores it may use: by itself PyTorch starts one for each core of the node.
        limit = {"containerName": CONTAINER, "resource": "limits.cpu", "divisor": "1"}
        environment.append({"name": "OMP_NUM_THREADS", "valueFrom": {"resourceFieldRef": limit}})
    return environment


def gpus_of_pod(job: FineTuneJob, role: Role) -> int:
    """GPUs that a pod of a role holds. One judges: as many would answer no case sooner."""
    asked = job.spec.resources
    if asked.accelerator == "CPU" or role not in (Role.TRAIN, Role.GATE):
        return 0
    return asked.gpu.count if asked.gpu and role is Role.TRAIN else 1


def _resources(job: FineTuneJob, role: Role) -> dict[str, Any]:
    """GPUs for the roles that run a model; memory and CPU as the user said, for every role.

    Without a GPU the CPU is what trains: limited, so that neighbours keep theirs and threads can follow it.
    """
    if role.is_chore:
        limit = _CHORE_MEMORY.get(role, "512Mi")
        return {"limits": {"memory": limit}, "requests": {"cpu": "100m", "memory": "256Mi"}}
    asked = job.spec.resources
    limits: dict[str, str] = {}
    requests: dict[str, str] = {}
    if asked.memory:
        limits["memory"] = requests["memory"] = asked.memory
    if asked.cpu:
        requests["cpu"] = asked.cpu
        if asked.accelerator == "CPU":
            limits["cpu"] = asked.cpu
    if asked.accelerator == "GPU" and role in (Role.TRAIN, Role.GATE):
        limits["nvidia.com/gpu"] = str(gpus_of_pod(job, role))
    return {k: v for k, v in {"limits": limits, "requests": requests}.items() if v}
