"""The status of a FineTuneJob. It is an API: dashboards and Argo CD read it. Every list has a bound."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from tunegate_api.meta import Condition, Decimal, Sha256, StatusModel, Time
from tunegate_api.verdict import VerdictState

MAX_CHECKPOINTS = 20
"""Checkpoints in status. The last ones are kept, and always the best; the rest are on the volume."""
MAX_NAMED_CASES = 10
"""Cases that a list in status names; a count beside it says how many there are."""
MAX_ATTEMPTS = 20
"""Finished child Jobs that status remembers."""


class Phase(StrEnum):
    """Where the job is, for people. Machines read the conditions."""

    PENDING = "Pending"
    VALIDATING = "Validating"
    AWAITING_REVIEW = "AwaitingReview"
    QUEUED = "Queued"
    TRAINING = "Training"
    GATING = "Gating"
    PUBLISHING = "Publishing"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    STOPPED = "Stopped"
    SUSPENDED = "Suspended"

    @property
    def is_final(self) -> bool:
        """Whether nothing will happen any more."""
        return self in (Phase.SUCCEEDED, Phase.FAILED)


class ConditionType(StrEnum):
    """Ready, Reconciling and Stalled follow kstatus; Reconciling and Stalled are present only when True."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    DATA_READY = "DataReady"
    TRAINED = "Trained"
    GATE_PASSED = "GatePassed"
    PUBLISHED = "Published"
    REGRESSING = "Regressing"


class Reason(StrEnum):
    """Why a condition has its status, or why a job waits, stopped or failed."""

    # on its way
    PENDING = "Pending"
    PROGRESSING = "Progressing"
    SUCCEEDED = "Succeeded"
    SUSPENDED = "Suspended"
    # waiting for what may come
    GATE_NOT_FOUND = "GateNotFound"
    GATE_NOT_READY = "GateNotReady"
    CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound"
    NAME_TAKEN = "NameTaken"
    POD_UNSCHEDULABLE = "PodUnschedulable"
    IMAGE_PULL = "ImagePull"
    QUEUE_NOT_ADMITTED = "QueueNotAdmitted"
    # stopped by a gate
    GOLDEN_REGRESSION = "GoldenRegression"
    MUST_PASS_FAILED = "MustPassFailed"
    REGRESSING = "Regressing"
    # failed
    INVALID_SPEC = "InvalidSpec"
    START_TIMEOUT = "StartTimeout"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    BAD_DATA = "BadData"
    TOO_FEW_ROWS = "TooFewRows"
    NOT_FOUND = "NotFound"
    CREDENTIALS = "Credentials"
    USER_ERROR = "UserError"
    NO_ACCELERATOR = "NoAccelerator"
    CUDA_OUT_OF_MEMORY = "CudaOutOfMemory"
    OUT_OF_MEMORY = "OutOfMemory"
    STORAGE = "Storage"
    KILLED = "Killed"
    INTERNAL_ERROR = "InternalError"
    NO_PROGRESS = "NoProgress"
    REPORT_MISSING = "ReportMissing"
    NO_PASSING_CHECKPOINT = "NoPassingCheckpoint"
    GATE_FAILED = "GateFailed"
    GATE_ERROR = "GateError"
    GATE_INCONCLUSIVE = "GateInconclusive"
    DISCARDED = "Discarded"


class Failure(StatusModel):
    """What went wrong, and what to do."""

    reason: Annotated[str, Field(max_length=64)]
    """A documented constant."""
    message: Annotated[str, Field(max_length=1024)]
    """What happened, with the field, the row or the number."""
    hint: Annotated[str, Field(max_length=1024)] = ""
    """What to do about it."""


class ModelStatus(StatusModel):
    """The model as it was resolved."""

    uri: str
    revision: str | None = None
    digest: Sha256
    """The digest of the weights."""


class PlanStatus(StatusModel):
    """What was resolved before training: the same plan is the same run."""

    sha256: Sha256
    config_map: str
    """The ConfigMap with the whole plan."""
    model: ModelStatus


class DataStatus(StatusModel):
    """The rows, after validation and split."""

    train: int
    dev: int
    test: int
    dropped: int = 0
    """Rows left out, each with its reason in data/report.json on the volume."""
    warnings: Annotated[list[Annotated[str, Field(max_length=512)]], Field(max_length=8)] = []


class Progress(StatusModel):
    """How far the current stage is."""

    stage: str
    step: int
    total_steps: int
    percent: int
    loss: Decimal | None = None
    tokens_per_second: Decimal | None = None
    estimated_end: Time | None = None
    gpu_memory: str | None = None
    """Peak memory of one GPU."""
    activity: Annotated[str, Field(max_length=64)] | None = None
    """What the pod does at the moment, when it is not a training step: evaluating, saving."""
    updated: Time


class GoldenStatus(StatusModel):
    """The golden set on one set of weights."""

    passed: int
    total: int
    rate: Decimal
    best_so_far: Decimal | None = None
    """The highest rate of the stage's starting model and its checkpoints up to this one."""
    delta_points: dict[str, Decimal] = {}
    """Difference to each baseline in percentage points."""


class GateResult(StatusModel):
    """What one gate says of one set of weights."""

    name: str
    golden: GoldenStatus | None = None
    verdict: VerdictState
    message: Annotated[str, Field(max_length=1024)] = ""
    """The arithmetic behind the verdict."""
    failed_cases: Annotated[list[str], Field(max_length=MAX_NAMED_CASES)] = []
    """The first failed cases."""
    skipped: Annotated[list[str], Field(max_length=4)] = []
    """Baselines that do not exist yet."""


class CheckpointStatus(StatusModel):
    """One checkpoint and how it was judged."""

    stage: str
    step: int
    loss: Decimal | None = None
    task: dict[str, Decimal] = {}
    """Task metrics on the dev split."""
    gates: Annotated[list[GateResult], Field(max_length=8)] = []


class CheckpointReference(StatusModel):
    stage: str
    step: int


class FinalStatus(StatusModel):
    """The judgement of the artifact that would be published."""

    model_digest: Sha256
    task: dict[str, Decimal] = {}
    """Task metrics on the test split."""
    task_verdict: VerdictState
    task_message: Annotated[str, Field(max_length=1024)] = ""
    gates: Annotated[list[GateResult], Field(max_length=8)] = []
    verdict: VerdictState
    """The worst of all."""


class StopDecision(StatusModel):
    """What a person decided about a stop."""

    stop: str
    """The id of the stop that was decided on."""
    action: Annotated[str, Field(max_length=16)]
    """continue or discard."""
    reason: Annotated[str, Field(max_length=1024)]
    """Why, in the person's words."""
    stage: str
    step: int
    """The step that training stood at."""
    time: Time


class Stop(StatusModel):
    """Why a gate stopped training. A person continues or discards."""

    id: str
    """Names this stop, so that a decision cannot meet another one."""
    stage: str
    step: int
    gate: str
    reason: str
    message: Annotated[str, Field(max_length=1024)]
    regressed_cases: Annotated[list[str], Field(max_length=MAX_NAMED_CASES)] = []
    """The first cases that passed at the best checkpoint and fail now."""
    regressed_count: int = 0
    kept: CheckpointReference | None = None
    """The best checkpoint so far; none when the starting model was best."""
    steps_saved: int = 0
    """Steps that were not spent on a run that got worse."""
    time: Time


class Attempt(StatusModel):
    """One finished child Job."""

    role: str
    """data, train, gate or publish."""
    stage: str | None = None
    number: int
    started: Time | None = None
    finished: Time | None = None
    result: Annotated[str, Field(max_length=64)]
    """Succeeded, or the reason of its failure."""
    last_step: int | None = None
    """The last checkpoint that existed when it ended."""


class Published(StatusModel):
    """Where the model went."""

    uri: str
    """The address of this version."""
    digest: Sha256
    time: Time


class Display(StatusModel):
    """Short texts for the columns of kubectl get."""

    stage: str = ""
    progress: str = ""
    golden: str = ""
    gate: str = ""
    best: str = ""


class FineTuneJobStatus(StatusModel):
    """What the operator observed and decided."""

    observed_generation: int | None = None
    """The generation of the spec that this status is about."""
    phase: Phase | None = None
    """Where the job is, for people."""
    conditions: Annotated[list[Condition], Field(max_length=16)] = []
    """Observed facts, for machines."""
    message: Annotated[str, Field(max_length=1024)] = ""
    """What the job is doing or waiting for."""
    display: Display = Display()
    """Short texts for the columns of kubectl get."""
    start_time: Time | None = None
    """When the first pod started."""
    completion_time: Time | None = None
    """When the job succeeded or failed."""
    waiting_since: Time | None = None
    """Since when the job waits for something it needs to start."""
    request: str | None = None
    """The ConfigMap with spec and gates as they were read."""
    plan: PlanStatus | None = None
    data: DataStatus | None = None
    progress: Progress | None = None
    start: Annotated[list[CheckpointStatus], Field(max_length=8)] = []
    """How each stage's starting model was judged."""
    checkpoints: Annotated[list[CheckpointStatus], Field(max_length=MAX_CHECKPOINTS)] = []
    """The last checkpoints, and the best."""
    checkpoints_omitted: int = 0
    """Earlier checkpoints that are not listed here."""
    best_checkpoint: CheckpointReference | None = None
    """The checkpoint that goes on: golden rate, then dev metric, then the earliest."""
    final: FinalStatus | None = None
    published: Annotated[list[Published], Field(max_length=4)] = []
    stop: Stop | None = None
    """Why a gate stopped training."""
    decisions: Annotated[list[StopDecision], Field(max_length=8)] = []
    """What people decided about stops."""
    failure: Failure | None = None
    """What went wrong, and what to do."""
    attempts: Annotated[list[Attempt], Field(max_length=MAX_ATTEMPTS)] = []
    """The last finished child Jobs."""
    running_seconds: int = 0
    """How long pods of finished child Jobs ran."""
    gpu_seconds: int = 0
    """GPU time of finished child Jobs."""

    def to_wire(self) -> dict[str, Any]:
        """JSON form without empty parts."""
        return {k: v for k, v in super().to_wire().items() if v not in ({}, [], "")}
