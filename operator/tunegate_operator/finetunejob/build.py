"""Build everything that a FineTuneJob owns: ConfigMaps and batch/v1 Jobs. Pure."""

from collections.abc import Sequence

from tunegate_api.baselines import BASELINES_VARIABLE, write_baselines
from tunegate_api.contract import Request, Results, Role
from tunegate_api.plan import ModelPlan, Plan, TrainingParameters
from tunegate_api.v1alpha1 import FineTuneJob
from tunegate_api.v1alpha1.evaluation_status import BaselineDigest
from tunegate_operator.children.job import (
    GRACE_SECONDS,
    JobOwner,
    PodNeeds,
    PodSettings,
    build_job,
    build_nodes_service,
)
from tunegate_operator.children.pod_template import for_role
from tunegate_operator.children.records import record_config_map
from tunegate_operator.engine.cluster import Object
from tunegate_operator.finetunejob.volumes import pod_volumes
from tunegate_operator.names import (
    JOB_LABEL,
    PLAN_KEY,
    REQUEST_KEY,
    RESULTS_KEY,
    Step,
    plan_name,
    request_name,
    results_name,
)

SAVED_BYTES = 24
"""Of each weight that is trained: itself and the two moments of AdamW, in float32, written
and read back for their digests."""
SAVE_BYTES_PER_SECOND = 100_000_000
"""What a slow network volume takes, and gives."""
CHORE_SECONDS = {Role.CLEANUP: 3600, Role.REPORT: 600, Role.TRACK: 600}
"""For how long such a Job may work, and wait for its pod: that of a report is waited for as long as any
other."""
LAPTOP_TRACK_SECONDS = 30
"""For how long trackers are tried where a person waits for the command to end, and can run it again."""
_CHORE_MEMORY = {Role.TRACK: "1Gi"}
"""Where it is not 512Mi: the clients of two trackers take 300 MB, and a long training's points some more."""


def owner_of(job: FineTuneJob) -> JobOwner:
    """The job as the owner of its children."""
    meta = job.metadata
    return JobOwner("FineTuneJob", meta.name, meta.namespace, meta.uid, {JOB_LABEL: meta.name})


def request_config_map(job: FineTuneJob, request: Request) -> Object:
    """What the job asks for, as it was read."""
    name = request_name(job.metadata.name, job.metadata.uid)
    return record_config_map(owner_of(job), name, REQUEST_KEY, request, immutable=True)


def plan_config_map(job: FineTuneJob, plan: Plan) -> Object:
    """What was resolved before training."""
    name = plan_name(job.metadata.name, job.metadata.uid)
    return record_config_map(owner_of(job), name, PLAN_KEY, plan, immutable=True)


def results_config_map(job: FineTuneJob, results: Results) -> Object:
    """The outcome of every case, from which every verdict can be computed again."""
    name = results_name(job.metadata.name, job.metadata.uid)
    return record_config_map(owner_of(job), name, RESULTS_KEY, results, immutable=False)


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
    """Build the Job that runs one attempt of one step, and may use these cached ``baselines``."""
    role, wanted = step.role, job.spec.pod_template
    reports = role not in (Role.CLEANUP, Role.TRACK)  # they report by their termination message alone
    volumes = pod_volumes(
        job,
        request,
        role,
        reports=reports and pods.report_to is not None,
        secrets_needed=pods.secrets_needed,
    )
    # Not an argument: a trainer of an earlier release, which the job may have begun with, refuses arguments
    # that it does not know.
    known = ({"name": BASELINES_VARIABLE, "value": write_baselines(baselines)},) if baselines else ()
    needs = PodNeeds(
        image=request.trainer_image or pods.image,
        volumes=volumes,
        args=extra_args,
        environment=known,
        resources=_resources(job, role),
        grace_seconds=grace_seconds(job, step, plan),
        nodes=node_count(job, role),
        deadline_seconds=_chore_seconds(job, role, pods) if role.is_chore else None,
        report_key=job.metadata.uid if reports else None,
        user_settings=for_role(wanted, role) if wanted else None,
    )
    return build_job(owner_of(job), step, attempt, needs, pods)


def nodes_service(job: FineTuneJob) -> Object:
    """Build the Service by which the pods of a stage find each other."""
    return build_nodes_service(owner_of(job), Role.TRAIN)


def _chore_seconds(job: FineTuneJob, role: Role, pods: PodSettings) -> int:
    if role is Role.TRACK and pods.on_one_machine:
        return LAPTOP_TRACK_SECONDS
    waiting = job.spec.start_timeout_seconds if role is Role.REPORT else 0
    return CHORE_SECONDS[role] + waiting


def node_count(job: FineTuneJob, role: Role) -> int:
    """How many pods run a step at the same time."""
    return job.spec.resources.nodes if role is Role.TRAIN else 1


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


def gpus(job: FineTuneJob, role: Role) -> int:
    """How many GPUs all pods of a role hold."""
    return gpus_of_pod(job, role) * node_count(job, role)


def gpus_of_pod(job: FineTuneJob, role: Role) -> int:
    """GPUs that a pod of a role holds. One judges: as many would answer no case sooner."""
    asked = job.spec.resources
    if asked.accelerator == "CPU" or role not in (Role.TRAIN, Role.GATE):
        return 0
    return asked.gpu.count if asked.gpu and role is Role.TRAIN else 1


def _resources(job: FineTuneJob, role: Role) -> dict[str, dict[str, str]]:
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
