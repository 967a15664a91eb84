"""The contract between operator and trainer: request, plan, reports and exit codes.

Files that a trainer process sees below ``$TUNEGATE_ROOT`` (``/tunegate`` in a pod)::

    request/request.json          Request, from an immutable ConfigMap
    plan/plan.json                Plan, from an immutable ConfigMap (created by the data role)
    review/review.json            ReviewRecord, from an immutable ConfigMap, if the job has data.quality
    inputs/<configmap>/<key>      ConfigMaps that the spec or its gates reference
    secrets/<secret>/<key>        Secrets with credentials for URIs, only for the role that needs them
    volumes/<claim>/…             PersistentVolumeClaims that URIs reference
    workspace/                    the storage volume, see :class:`tunegate_api.workspace.Workspace`
    termination.json              Termination, written last
    report/token                  the pod's token for reports, if the pod sends reports
"""

import hashlib
import json
from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Literal

from tunegate_api import GROUP
from tunegate_api.baselines import MeasuredBaseline
from tunegate_api.meta import Count, Listed, Seconds, Sha256, StatusModel, Time
from tunegate_api.plan import Plan, TrainingParameters
from tunegate_api.published import PublishedVersion
from tunegate_api.results import Results
from tunegate_api.v1alpha1.data_status import DataCheckResult
from tunegate_api.v1alpha1.evalgate import EvalGateSpec
from tunegate_api.v1alpha1.finetunejob import FineTuneJobSpec
from tunegate_api.v1alpha1.finetunejob_status import Failure, Progress
from tunegate_api.v1alpha1.reasons import Reason
from tunegate_api.workspace import Workspace

ROOT_VARIABLE = "TUNEGATE_ROOT"
DEFAULT_ROOT = "/tunegate"
FAILURE_FILE = "failure.json"
"""The file, below the root, in which the trainer writes why it could not do what a command of ``tunegate``
needs, as a :class:`Failure`."""

REPORT_URL_VARIABLE = "TUNEGATE_REPORT_URL"
"""Environment variable with the URL for reports. If the variable is not set, reports are only written to the
outbox."""
REPORT_CA_VARIABLE = "TUNEGATE_REPORT_CA"
"""Environment variable with the CA certificate of the server at ``TUNEGATE_REPORT_URL``, in PEM format."""
MASTER_VARIABLE = "TUNEGATE_MASTER"
"""Environment variable with HOST:PORT of the pod with rank 0 in distributed training."""
NODE_VARIABLE = "TUNEGATE_NODE"
"""Environment variable with the number of this pod in distributed training, from 0."""
LOCAL_ADDRESSES_VARIABLE = "TUNEGATE_LOCAL_ADDRESSES"
"""Environment variable with the networks among loopback and link-local addresses to which a pod may connect,
separated by commas. If the variable is not set, as on a laptop, a pod may connect to all addresses."""
REPORT_TOKEN_SECONDS = 3600
"""Lifetime of a token for reports, in seconds. The kubelet renews the token before it expires."""


def report_path(job_uid: str) -> str:
    """Return the path of the operator's URL for reports on a job. Pods send a :class:`Report` to it by POST.

    Responses: 200, the report is recorded in status; its progress and usage may follow later. 401, the
    request has no token. 403, the token is refused. 404, the job does not exist. 413, the report is too
    large. 422, the body is not a report, or the pod may not send this report. 503, the pod must retry later.
    """
    return f"/v1/jobs/{job_uid}/report"


def report_audience(job_uid: str) -> str:
    """Return the audience of the tokens with which pods report on a job. Each job has its own."""
    return f"{GROUP}/{job_uid}"


class Role(StrEnum):
    """The role of a child Job, which is the first argument of the trainer."""

    DATA = "data"
    TRAIN = "train"
    GATE = "gate"
    PUBLISH = "publish"
    REPORT = "report"
    """Sends the reports in the outbox that earlier pods could not deliver."""
    TRACK = "track"
    """Sends to the trackers how the job ended, and the metrics that earlier pods could not deliver."""
    CLEANUP = "cleanup"

    @property
    def is_chore(self) -> bool:
        """Whether the role only does follow-up work. Pods of such a role are small, and send no reports about
        their own work."""
        return self in (Role.REPORT, Role.TRACK, Role.CLEANUP)

    @property
    def sends_metrics(self) -> bool:
        """Whether pods of this role send metrics to the trackers of the job."""
        return self is Role.TRACK or not self.is_chore


class ExitCode(IntEnum):
    """Exit code of a trainer process. After a permanent exit code, a retry cannot succeed."""

    OK = 0
    INTERNAL_ERROR = 1
    BAD_DATA = 10
    NOT_FOUND = 11
    CREDENTIALS = 12
    USER_ERROR = 13
    NO_ACCELERATOR = 14
    CUDA_OUT_OF_MEMORY = 15
    STORAGE = 16
    UNREACHABLE = 17
    INTERRUPTED = 75
    """The process was stopped by SIGTERM, and saved its state. The next attempt resumes from that state."""

    @property
    def is_permanent(self) -> bool:
        return ExitCode.BAD_DATA <= self <= ExitCode.CUDA_OUT_OF_MEMORY


PERMANENT_EXIT_CODES = [int(code) for code in ExitCode if code.is_permanent]


class Outcome(StrEnum):
    """How a role ended. An outcome is not a verdict: if a gate measured a model that is not good enough, its
    outcome is Completed and its verdict Failed."""

    COMPLETED = "Completed"
    STOPPED = "Stopped"
    """The stop rule ended training after a complete checkpoint."""
    INTERRUPTED = "Interrupted"
    FAILED = "Failed"


class GateRequest(StatusModel):
    """An EvalGate as the operator read it when the job started."""

    name: str
    spec: EvalGateSpec
    golden_sha256: Sha256
    required: bool = False
    """Whether the job's namespace or the cluster requires this gate. No setting of the job then allows its
    golden cases in the training data."""
    safety_sha256: Sha256 | None = None
    """Digest of the safety set. None if the gate has none."""
    calibrated_bases: list[Sha256] | None = None
    """Digests of the base models for which the error rate of the gate is known, with this golden set and
    scoring. For other base models, the final gate measures it if the gate has `calibration`. None if it is
    known for no base model."""
    last_published: PublishedVersion | None = None
    """The published version that checkpoints are compared with. The artifact is compared with this version,
    too, if the publish targets have no evidence of this gate. None if no version was published."""

    @property
    def safety_at_checkpoints(self) -> bool:
        """Whether starting models and checkpoints are evaluated on the safety set."""
        return self.spec.safety is not None and self.spec.safety.evaluate_checkpoints


class StartRequest(StatusModel):
    """The final model of the job in ``model.startFrom``, as the status and plan of that job describe it."""

    job: str
    uid: str
    claim: str
    """The PersistentVolumeClaim with the folder of the job ``job``."""
    digest: Sha256
    """Digest of the artifact that passed the gates of the job ``job``."""
    base_digest: Sha256
    """Digest of the base model of the job ``job``. The base model is on the claim, too."""
    trained: TrainingParameters
    """Training parameters of the stage that trained the artifact."""

    @property
    def uri(self) -> str:
        """The address of the artifact."""
        return f"pvc://{self.claim}/{Workspace(self.uid).model}"


class Request(StatusModel):
    """The immutable record of a job's spec and gates. Later changes of an EvalGate do not affect it."""

    name: str
    namespace: str
    uid: str
    spec: FineTuneJobSpec
    gates: list[GateRequest]
    left_out: dict[str, str] = {}
    """The gates in a dry run that were not ready when the job started, by name, with the reason."""
    start_from: StartRequest | None = None
    """The model of the job in `model.startFrom`, if the spec has one."""
    trainer_image: str | None = None
    """The image of all pods of the job, as configured in the operator when the job started."""

    def gate(self, name: str) -> GateRequest:
        return next(g for g in self.gates if g.name == name)

    def gates_of(self, stage: str) -> list[GateRequest]:
        """Return the gates of a stage. A stage without gates of its own has the gates of the job."""
        own = next(s for s in self.spec.stages if s.name == stage).gates
        return [self.gate(g.name) for g in (own or self.spec.gates) if g.name not in self.left_out]

    @property
    def gathered_dtype(self) -> Literal["bfloat16", "float32"]:
        """The data type in which FSDP gathers weights and computes on GPUs."""
        exact = any(gate.spec.generation.precision == "Float32" for gate in self.gates)
        return "float32" if exact else "bfloat16"

    @property
    def final_gates(self) -> list[GateRequest]:
        """The gates that judge the artifact before it is published."""
        return [self.gate(g.name) for g in self.spec.gates if g.name not in self.left_out]

    @property
    def safety_gates(self) -> list[GateRequest]:
        """Return the gates whose safety sets the job evaluates: the final gates, and gates of stages that
        evaluate checkpoints on them."""
        final = {gate.name for gate in self.spec.gates}
        gates = [gate for gate in self.gates if gate.name in final or gate.safety_at_checkpoints]
        return [gate for gate in gates if gate.spec.safety]

    @property
    def compares_with_published(self) -> bool:
        """Whether the artifact is compared with the last version in the publish targets. This is the case if
        the job has a target, and a gate of the job has the baseline LastPublished."""
        names = {gate.name for gate in self.spec.gates}
        gates = [gate for gate in self.gates if gate.name in names]
        return bool(self.spec.publish) and any("LastPublished" in gate.spec.baselines for gate in gates)


class PublishedArtifact(StatusModel):
    uri: str
    digest: Sha256


class Usage(StatusModel):
    """The cost of training a stage, over all its attempts."""

    steps: Count = 0
    """Number of computed optimizer steps. A step that was repeated after an interruption counts twice."""
    tokens: Count = 0
    training_seconds: Seconds = 0.0
    """Seconds spent in optimizer steps."""
    evaluation_seconds: Seconds = 0.0
    peak_gpu_bytes: Count = 0
    """Peak memory of tensors on the GPU of rank 0, in bytes."""
    peak_process_bytes: Count = 0
    """Peak resident memory of the process with rank 0 in bytes, if the stage trains without GPUs."""


class Report(StatusModel):
    """A report of a running pod. Each report has all results of its stage, so the loss of one report does no
    harm."""

    job_uid: str
    role: Role
    stage: str | None = None
    """Name of the stage, for the role train."""
    attempt: int
    sequence: int
    """Number of the report. It increases with every report of the same role and stage, also from one attempt
    to the next."""
    time: Time
    progress: Progress | None = None
    usage: Usage | None = None
    """Cost of training the stage so far."""
    plan: Plan | None = None
    """The plan. Only reports of the role data have one."""
    data_checks: Listed[DataCheckResult] = []
    """Results of the data checks so far. Only reports of the role data have them."""
    results: Results = Results()
    published: Listed[PublishedArtifact] = []
    outcome: Outcome | None = None
    """Set in the last report of a pod."""
    failure: Failure | None = None

    @property
    def file_name(self) -> str:
        """The file name of the report in the outbox. All attempts of a role and stage use the same file
        name."""
        return f"{self.role}-{self.stage}.json" if self.stage else f"{self.role}.json"


class Termination(StatusModel):
    """The termination message of a pod, at most 4 KiB."""

    exit_code: int
    outcome: Outcome
    failure: Failure | None = None
    report_sha256: Sha256 | None = None
    """Digest of the file in the outbox that contains the pod's last report. None if the pod wrote no last
    report."""
    trackers_behind: list[str] | None = None
    """Trackers that did not receive all metrics of this pod. None if the job has no trackers, or if the pod
    ended before it had tried to send all metrics."""
    baselines: list[MeasuredBaseline] = []
    """Digests of the cached baselines that this pod wrote or used, as many as fit into the message. A report
    on the volume does not contain these digests, because other pods could change them there."""


def cause_priority(exit_code: int, failure: Failure | None) -> int:
    """Return how well the end of one rank explains why distributed training ended. 4 explains it best.

    0: the rank succeeded. 1: the rank only lost its peers. 2: the rank was stopped. 3: the rank failed. 4:
    the rank failed permanently, so a retry cannot succeed.
    """
    if failure is not None and failure.reason == Reason.PEER_LOST:
        return 1
    if exit_code == ExitCode.OK:
        return 0
    if exit_code == ExitCode.INTERRUPTED:
        return 2
    return 4 if exit_code in PERMANENT_EXIT_CODES else 3


class FileManifest(StatusModel):
    """The manifest.json of a checkpoint or an artifact: its files and their digests."""

    files: dict[str, Sha256]
    digest: Sha256
    """Digest of all files, see :func:`files_digest`. The manifest of a published version has the digest of
    the judged artifact: its model card and evidence are not included."""


def files_digest(files: Mapping[str, Sha256]) -> Sha256:
    """Return the digest of a folder: the SHA-256 of the names and digests of its files as JSON, with sorted
    keys and without spaces. The files include the tokenizer and the chat template."""
    return sha256_text(json.dumps(dict(files), sort_keys=True, separators=(",", ":")))


def canonical_json(model: StatusModel) -> str:
    """Return the model as JSON with sorted keys and without spaces, so that equal content has the same
    text."""
    return json.dumps(
        model.model_dump(mode="json", by_alias=True, exclude_none=True), sort_keys=True, separators=(",", ":")
    )


def plan_digest(plan: Plan) -> Sha256:
    """Return the digest of a plan. The field ``image`` is left out, because the image is only known on a
    cluster."""
    return sha256_text(canonical_json(plan.model_copy(update={"image": None})))


def sha256_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
