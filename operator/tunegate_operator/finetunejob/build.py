"""Build everything that a FineTuneJob owns: ConfigMaps and batch/v1 Jobs. Pure."""

from collections.abc import Sequence

from tunegate_api.contract.baselines import BASELINES_VARIABLE, write_baselines
from tunegate_api.contract.digests import canonical_json
from tunegate_api.contract.plan import ModelPlan, Plan, TrainingParameters
from tunegate_api.contract.process import Role
from tunegate_api.contract.request import Request
from tunegate_api.contract.results import Results
from tunegate_api.contract.workspace import Workspace
from tunegate_api.judging.approval import DECISION_VARIABLE
from tunegate_api.judging.review import ReviewRecord
from tunegate_api.v1alpha2 import FineTuneJob
from tunegate_api.v1alpha2.evaluation_status import BaselineDigest, PersonDecision
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
from tunegate_operator.children.volumes import PodVolumes
from tunegate_operator.engine.cluster import Object
from tunegate_operator.finetunejob.volumes import pod_volumes
from tunegate_operator.names import (
    JOB_LABEL,
    PLAN_KEY,
    REQUEST_KEY,
    RESULTS_KEY,
    REVIEW_KEY,
    Step,
    plan_name,
    request_name,
    results_name,
    review_name,
)

SAVED_BYTES = 24
"""Bytes that saving a checkpoint moves per trained weight: the weight and the two moments of AdamW, in
float32, each written once, and read once to compute the digests."""
SAVE_BYTES_PER_SECOND = 100_000_000
"""Write and read speed of a slow network volume."""
CHORE_SECONDS = {Role.CLEANUP: 3600, Role.REPORT: 600, Role.TRACK: 600}
"""Deadline in seconds of the small Jobs for cleanup, reports and trackers, including the wait for the pod.
Report Jobs get ``startTimeoutSeconds`` in addition."""
DELETION_ATTEMPT = 2
"""Number of the cleanup Job of a job that is being deleted. That of the TTL has the number 1."""
LAPTOP_TRACK_SECONDS = 30
"""Deadline in seconds of a track Job on a laptop. It is short, because a user waits for the command and can
run the command again."""
_CHORE_MEMORY = {Role.TRACK: "1Gi"}
"""Memory limits of small Jobs that need more than 512Mi. Two tracker clients take 300 MB, and the data points
of a long training run take more."""


def owner_of(job: FineTuneJob) -> JobOwner:
    """Return the job as the owner of its children."""
    meta = job.metadata
    return JobOwner("FineTuneJob", meta.name, meta.namespace, meta.uid, {JOB_LABEL: meta.name})


def request_config_map(job: FineTuneJob, request: Request) -> Object:
    """Build the ConfigMap that records the request."""
    name = request_name(job.metadata.name, job.metadata.uid)
    return record_config_map(owner_of(job), name, REQUEST_KEY, request, immutable=True)


def plan_config_map(job: FineTuneJob, plan: Plan) -> Object:
    """Build the ConfigMap that records the plan."""
    name = plan_name(job.metadata.name, job.metadata.uid)
    return record_config_map(owner_of(job), name, PLAN_KEY, plan, immutable=True)


def results_config_map(job: FineTuneJob, results: Results) -> Object:
    """Build the ConfigMap that records every case outcome. Every verdict can be recomputed from it."""
    name = results_name(job.metadata.name, job.metadata.uid)
    return record_config_map(owner_of(job), name, RESULTS_KEY, results, immutable=False)


def review_config_map(job: FineTuneJob, review: ReviewRecord) -> Object:
    """Build the ConfigMap that records the scores with which the review was decided."""
    name = review_name(job.metadata.name, job.metadata.uid)
    return record_config_map(owner_of(job), name, REVIEW_KEY, review, immutable=True)


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
    decision: PersonDecision | None = None,
    leave_out_claims: bool = False,
) -> Object:
    """Build the Job that runs one attempt of one step. Its pods may use the cached ``baselines``, and get the
    ``decision`` about the final verdict. For ``leave_out_claims``, see :func:`pod_volumes`."""
    role, wanted = step.role, job.spec.pod_template
    reports = role not in (Role.CLEANUP, Role.TRACK)  # their pods write only a termination message
    volumes = pod_volumes(
        job,
        request,
        step,
        reports=reports and pods.report_to is not None,
        secrets_needed=pods.secrets_needed,
        leave_out_claims=leave_out_claims,
    )
    # A variable, because the job may run a trainer of an earlier release, which refuses unknown arguments.
    known = [{"name": BASELINES_VARIABLE, "value": write_baselines(baselines)}] if baselines else []
    known += [_decision_variable(decision, pods)] if decision else []
    needs = PodNeeds(
        image=request.trainer_image or pods.image,
        volumes=volumes,
        args=extra_args,
        environment=tuple(known),
        resources=_resources(job, role),
        grace_seconds=grace_seconds(job, step, plan),
        nodes=node_count(job, role),
        deadline_seconds=_chore_seconds(job, role, pods) if role.is_chore else None,
        report_key=job.metadata.uid if reports else None,
        user_settings=for_role(wanted, role) if wanted else None,
    )
    return build_job(owner_of(job), step, attempt, needs, pods)


def deletion_job(job: FineTuneJob, pods: PodSettings) -> Object:
    """Build the Job that removes all files of a job that is being deleted.

    Its pod mounts only the job's folder, and no request, because the garbage collector may have deleted the
    request. Therefore it runs the operator's own trainer image, not the one in the request.
    """
    meta, wanted = job.metadata, job.spec.pod_template
    volumes = PodVolumes()
    volumes.add_workspace(job.spec.storage.persistent_volume_claim, {Workspace(meta.uid).job: True})
    needs = PodNeeds(
        image=pods.image,
        volumes=volumes,
        args=("--deleted-job", meta.uid),
        resources=_resources(job, Role.CLEANUP),
        grace_seconds=grace_seconds(job, Step(Role.CLEANUP), None),
        deadline_seconds=CHORE_SECONDS[Role.CLEANUP],
        user_settings=for_role(wanted, Role.CLEANUP) if wanted else None,
    )
    return build_job(owner_of(job), Step(Role.CLEANUP), DELETION_ATTEMPT, needs, pods)


def _decision_variable(decision: PersonDecision, pods: PodSettings) -> Object:
    """Return the environment variable with the decision about the final verdict. ``$`` is escaped, because
    the reason may contain ``$(NAME)``, which a kubelet replaces with the value of another variable."""
    text = canonical_json(decision)
    return {"name": DECISION_VARIABLE, "value": text if pods.on_one_machine else text.replace("$", "$$")}


def nodes_service(job: FineTuneJob) -> Object:
    """Build the Service through which the pods of a distributed training find each other."""
    return build_nodes_service(owner_of(job), Role.TRAIN)


def _chore_seconds(job: FineTuneJob, role: Role, pods: PodSettings) -> int:
    if role is Role.TRACK and pods.on_one_machine:
        return LAPTOP_TRACK_SECONDS
    waiting = job.spec.start_timeout_seconds if role is Role.REPORT else 0
    return CHORE_SECONDS[role] + waiting


def node_count(job: FineTuneJob, role: Role) -> int:
    """Return how many pods run the role of a step at the same time."""
    return job.spec.resources.nodes if role is Role.TRAIN else 1


def grace_seconds(job: FineTuneJob, step: Step, plan: Plan | None) -> int:
    """Return the termination grace period of a step's pods: the one in ``podTemplate``, or else one that
    grows with the number of trained weights."""
    wanted = job.spec.pod_template
    if wanted and wanted.termination_grace_period_seconds is not None:
        return wanted.termination_grace_period_seconds
    if plan is None or step.role is not Role.TRAIN or step.stage is None:
        return GRACE_SECONDS
    trained = _trained_weights(plan.model, plan.stage(step.stage).parameters)
    return GRACE_SECONDS + trained * SAVED_BYTES // SAVE_BYTES_PER_SECOND


def _trained_weights(model: ModelPlan, parameters: TrainingParameters) -> int:
    """Return how many weights a stage trains; 0 for an adapter if the model's shape is unknown."""
    if parameters.adapter == "None":
        return model.parameters
    if model.shape is None:
        return 0
    return model.shape.adapter_weights(parameters.target_modules or [], parameters.lora_r or 0)


def gpus(job: FineTuneJob, role: Role) -> int:
    """Return how many GPUs all pods of a role use in total."""
    return gpus_of_pod(job, role) * node_count(job, role)


def gpus_of_pod(job: FineTuneJob, role: Role) -> int:
    """Return how many GPUs one pod of a role uses. The gate uses one, because evaluation uses only one
    GPU."""
    resources = job.spec.resources
    if resources.accelerator == "CPU" or role not in (Role.TRAIN, Role.GATE):
        return 0
    return resources.gpu.count if resources.gpu and role is Role.TRAIN else 1


def _resources(job: FineTuneJob, role: Role) -> dict[str, dict[str, str]]:
    """Return the limits and requests of a role's pods.

    If the job trains on GPUs, training and gate pods get them. Pods of the roles report, track and cleanup
    get small fixed values; all other pods get the memory and the CPU of the spec. If the job trains on
    CPUs, ``cpu`` is also a limit, which protects other pods and sets the number of threads.
    """
    if role.is_chore:
        limit = _CHORE_MEMORY.get(role, "512Mi")
        return {"limits": {"memory": limit}, "requests": {"cpu": "100m", "memory": "256Mi"}}
    resources = job.spec.resources
    limits: dict[str, str] = {}
    requests: dict[str, str] = {}
    if resources.memory:
        limits["memory"] = requests["memory"] = resources.memory
    if resources.cpu:
        requests["cpu"] = resources.cpu
        if resources.accelerator == "CPU":
            limits["cpu"] = resources.cpu
    if resources.accelerator == "GPU" and role in (Role.TRAIN, Role.GATE):
        limits["nvidia.com/gpu"] = str(gpus_of_pod(job, role))
    return {k: v for k, v in {"limits": limits, "requests": requests}.items() if v}
