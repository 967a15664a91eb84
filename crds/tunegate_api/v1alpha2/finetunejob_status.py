"""The types of a FineTuneJob's status, which is an API: dashboards and Argo CD read it. All lists are
bounded."""

from typing import Annotated, Any

from pydantic import Field

from tunegate_api.meta import Condition, Decimal, Message, Sha256, StatusModel, Time, find_condition
from tunegate_api.v1alpha2.cost import Cost, StageMemory
from tunegate_api.v1alpha2.data_status import MAX_DATA_CHECKS, DataCheckResult, DataStatus
from tunegate_api.v1alpha2.error_rate_status import JobErrorRate
from tunegate_api.v1alpha2.evaluation_status import (
    MAX_NAMED_CASES,
    BaselineDigest,
    CheckpointReference,
    CheckpointStatus,
    FinalStatus,
    PersonDecision,
)
from tunegate_api.v1alpha2.reasons import HELD, ConditionType, LifecycleStage, LifecycleState, Phase

MAX_CHECKPOINTS = 20
"""Maximum number of checkpoints in status: the newest checkpoints and the best one. The volume has the
results of all checkpoints."""
MAX_IMAGE_ID = 1024
"""Maximum length of an image's name and digest, in characters."""
MAX_ATTEMPTS = 20
"""Maximum number of finished child Jobs in status."""

MAX_EVICTIONS = 10
"""Maximum number of evicted pods in status. The job fails after this number of evictions without a new
checkpoint."""
MAX_BASELINES = 24
"""Maximum number of cached baselines in status, of 160 bytes each. A base model has one cached
baseline for each gate, and more for held-out rows."""
MAX_PUBLISHED = 4
"""Maximum number of publish targets of a job."""
MAX_DECISIONS = 9
"""Maximum number of decisions in status: the newest of each stage, and that about the final verdict."""
STOP_ACTIONS = ("continue", "discard")
"""The decisions about a stop. The others are about the final verdict."""


class Failure(StatusModel):
    """Why the job failed, and how to fix it."""

    reason: Annotated[str, Field(max_length=64)]
    """Reason of the failure, one of the documented constants."""
    message: Message
    """What happened. Names the field, the row or the number in question."""
    hint: Message = ""
    """How to fix it."""


class ModelStatus(StatusModel):
    """The model that training starts from, after its address was resolved."""

    uri: str
    """Address of the weights."""
    start_from: str | None = None
    """Name of the FineTuneJob that trained the weights. Only set if the spec has `model.startFrom`."""
    revision: str | None = None
    """Commit or version of the weights, if the source has one."""
    digest: Sha256
    """Digest of the weights."""


class StageSummary(StatusModel):
    """Size of a training stage."""

    stage: str
    """Name of the stage."""
    steps: int
    """Number of optimizer steps."""
    tokens: int
    """Number of tokens in one epoch, including prompts."""


class PlanStatus(StatusModel):
    """Summary of the plan, which records every resolved parameter before training. Jobs with equal plans run
    in the same way."""

    sha256: Sha256
    """Digest of the plan without its field `image`."""
    config_map: str
    """Name of the ConfigMap with the whole plan."""
    image: Annotated[str, Field(max_length=MAX_IMAGE_ID)] | None = None
    """Trainer image that prepared the data, with its digest. The tag may point to another image by now."""
    model: ModelStatus
    """The model that training starts from."""
    memory: Annotated[list[StageMemory], Field(max_length=8)] | None = None
    """Estimated memory of each stage, computed before a GPU is requested. Absent if the memory cannot be
    estimated for this model architecture."""
    parameters: int | None = None
    """Number of parameters of the model."""
    stages: Annotated[list[StageSummary], Field(max_length=8)] = []
    """Size of each stage."""
    advice: Annotated[list[Annotated[str, Field(max_length=512)]], Field(max_length=8)] = []
    """Advice about which GPU is large enough, and which method may work better. `tunegate plan` prints it
    too."""


class Progress(StatusModel):
    """Progress of the current stage."""

    stage: str
    """Name of the stage that is training."""
    step: int
    """Number of optimizer steps that the stage has completed."""
    total_steps: int
    """Number of optimizer steps of the stage."""
    percent: int
    """Percentage of completed steps, 0 to 100."""
    loss: Decimal | None = None
    """Training loss at the last optimizer step."""
    tokens_per_second: Decimal | None = None
    """Training throughput in tokens per second."""
    estimated_end: Time | None = None
    """Estimated end of the stage at this throughput."""
    gpu_memory: str | None = None
    """Peak GPU memory since the start of the training process. If several GPUs train, that of the first
    GPU."""
    pass_tokens: int | None = None
    """Maximum number of tokens per forward pass, if this number was reduced because GPU memory was too small.
    The number of examples per optimizer step is unchanged."""
    activity: Annotated[str, Field(max_length=64)] | None = None
    """What the pod is doing besides optimizer steps, for example loading the model, evaluating or saving.
    Absent during optimizer steps."""
    updated: Time
    """Time of the measurement."""


class Stop(StatusModel):
    """Why a gate or a task metric stopped training. A person must continue or discard the job."""

    id: str
    """Id of this stop. A decision contains this id, so the decision cannot apply to another stop."""
    stage: str
    """Stage that was stopped."""
    step: int
    """Optimizer step of the checkpoint that caused the stop."""
    gate: str | None = None
    """Name of the EvalGate that stopped training. Absent if a task metric did."""
    metric: str | None = None
    """Name of the task metric that stopped training. Absent if a gate did."""
    reason: str
    """Reason of the stop: GoldenRegression, MustPassFailed, SafetyRegression or TaskMetricRegression."""
    message: Message
    """The arithmetic behind the stop."""
    regressed_cases: Annotated[list[str], Field(max_length=MAX_NAMED_CASES)] = []
    """Ids of the first regressed cases, at most 10. GoldenRegression: they passed at the best step so far,
    which may be the starting model. MustPassFailed: they are `mustPass` cases that passed on the starting
    model or on any earlier checkpoint. SafetyRegression: they are safety cases that the starting model
    refused or answered as they ask for. TaskMetricRegression: they are dev rows that passed at the best step
    so far. Evaluations before a stop that a person continued are ignored, and that checkpoint replaces the
    starting model."""
    regressed_count: int = 0
    """Number of all regressed cases, of which `regressedCases` lists the first."""
    best_step: int | None = None
    """Optimizer step of the best checkpoint of the stage so far, which is kept. Absent if the starting model
    is best. SafetyRegression: that of the best checkpoint that passed. Absent if none passed."""
    steps_saved: int = 0
    """Number of remaining optimizer steps of the stage, which the stop skipped."""
    seconds_saved: int | None = None
    """Estimated time in seconds that the rest of the stage would have taken. Later stages are not included.
    Absent if no duration was measured."""
    gpu_seconds_saved: int | None = None
    """`secondsSaved` multiplied by the number of GPUs of the stage."""
    time: Time
    """Time of the stop."""


class Attempt(StatusModel):
    """A finished child Job."""

    role: str
    """Role of the Job: data, train, gate, publish or report. A report Job only sends reports that earlier
    pods could not deliver."""
    stage: str | None = None
    """Name of the stage, for the role train."""
    number: int
    """Number of the attempt. Attempts are counted from 1, separately for each role and stage."""
    started: Time | None = None
    """Time at which the first pod of the Job started."""
    finished: Time | None = None
    """Time at which the Job ended."""
    result: Annotated[str, Field(max_length=64)]
    """How the child Job ended: Succeeded, or the reason of its failure."""
    last_step: int | None = None
    """Optimizer step of the last checkpoint that existed when the Job ended."""


class Eviction(StatusModel):
    """A pod that the cluster evicted or preempted."""

    pod: str
    """Name of the pod."""
    step: int
    """Optimizer step of the last checkpoint before the eviction. 0 if there was no checkpoint."""
    time: Time
    """Time at which the pod ended."""


class Cleanup(StatusModel):
    """Result of the cleanup after `ttlSecondsAfterFinished`."""

    time: Time
    """Time at which the removal of files ended. Then Jobs and pods are deleted, even if files could not be
    removed."""
    result: Annotated[str, Field(max_length=64)]
    """Succeeded, or the reason why files remain on the volume."""
    message: Message
    """What was removed and what was kept, or which files remain."""


class TrackingStatus(StatusModel):
    """Delivery of metrics that experiment trackers had not received when the job ended. Follow-up pods send
    these metrics."""

    behind: Annotated[list[Annotated[str, Field(max_length=16)]], Field(max_length=4)]
    """Trackers that had not received everything when the job ended: mlflow, wandb."""
    attempts: int = 0
    """Number of follow-up pods that failed to deliver the remaining metrics."""
    result: Annotated[str, Field(max_length=64)] | None = None
    """Succeeded, or TrackerBehind if metrics may still be missing. Absent while delivery is retried."""
    message: Message = ""
    """What was sent, or why metrics were not sent and where they are stored."""
    time: Time | None = None
    """Time at which the last follow-up pod ended, or at which no metrics were left to send."""


class Published(StatusModel):
    """A published version of the model."""

    uri: str
    """Address of the published version."""
    digest: Sha256
    """Digest of all files of the published artifact."""
    time: Time
    """Time of publishing."""


class LifecycleEntry(StatusModel):
    """A stage of the fine-tuning lifecycle, and its state."""

    stage: LifecycleStage
    """Name of the lifecycle stage."""
    state: LifecycleState
    """State of the lifecycle stage."""
    started: Time | None = None
    """Time at which the operator first observed that the lifecycle stage had started."""
    finished: Time | None = None
    """Time at which the operator first observed that the lifecycle stage had ended, successfully or not."""


class Display(StatusModel):
    """Short texts for the columns of `kubectl get`."""

    stage: str = ""
    """Current training stage, for example sft 1/2."""
    progress: str = ""
    """Progress of the training stage, for example 40%."""
    base: str | None = None
    """Golden pass rate of the model that the job starts from, on the gate of `golden`, for example 0.94."""
    golden: str = ""
    """Golden pass rate of the last checkpoint or of the final model, for example 0.96. It is that of its
    first gate that is not in a dry run."""
    gate: str = ""
    """Verdict of the gates. Pending: no verdict yet. Failed: a model failed, training was stopped, or no
    checkpoint passed. Error: a model, or the nearest checkpoint, could not be measured. NotReached: the job
    ended before a gate evaluated a model. NotEnforced: the final model passed its task metrics, and all gates
    are in a dry run."""
    best: str = ""
    """Best checkpoint that passed, and its golden pass rate, for example step 70 (0.96). Names the stage if a
    later stage is training."""
    next: str | None = None
    """What a person should do next: fix something or wait, with the reason; decide about a stop; review the
    data; resume a suspended job. Absent if there is nothing to do."""


class FineTuneJobStatus(StatusModel):
    """Status of a FineTuneJob, written by the operator."""

    observed_generation: int | None = None
    """Generation of the spec that this status describes."""
    phase: Phase | None = None
    """Phase of the job, for people. Programs should read the conditions."""
    conditions: Annotated[list[Condition], Field(max_length=16)] = []
    """Conditions of the job, for programs."""
    message: Message = ""
    """What the job is doing or waiting for."""
    display: Display = Display()
    """Short texts for the columns of `kubectl get`."""
    lifecycle: Annotated[list[LifecycleEntry], Field(max_length=7)] = []
    """The seven lifecycle stages from data preparation to monitoring, in order."""
    start_time: Time | None = None
    """Time at which the first pod of the job started."""
    completion_time: Time | None = None
    """Time at which the job succeeded or failed."""
    waiting_since: Time | None = None
    """Time at which the job began to wait for something that it needs to start. Absent if the job is not
    waiting."""
    request: str | None = None
    """Name of the ConfigMap with the spec and the gates as the operator read them when the job started."""
    request_sha256: Sha256 | None = None
    """Digest of the `request.json` in this ConfigMap. If the ConfigMap is deleted or has another digest, the
    job is held."""
    plan: PlanStatus | None = None
    """Summary of the plan, which records every resolved parameter before training."""
    data: DataStatus | None = None
    """Numbers of rows after the rows were validated and split."""
    data_checks: Annotated[list[DataCheckResult], Field(max_length=MAX_DATA_CHECKS)] = []
    """Results of the data checks, also if they refused the data."""
    progress: Progress | None = None
    """Progress of the current stage."""
    start: Annotated[list[CheckpointStatus], Field(max_length=8)] = []
    """Evaluation of the starting model of each stage. Only that of the last stage, if status would otherwise
    be larger than 32 KiB."""
    checkpoints: Annotated[list[CheckpointStatus], Field(max_length=MAX_CHECKPOINTS)] = []
    """Evaluations of the newest checkpoints and of the best checkpoint."""
    checkpoints_omitted: int = 0
    """Number of earlier checkpoints that `checkpoints` does not list."""
    best_checkpoint: CheckpointReference | None = None
    """The best checkpoint that passed: the one with the highest golden pass rate, then the highest task
    metric on the dev split, and then the earliest. The next stage or the final gate uses it."""
    final: FinalStatus | None = None
    """Evaluation of the artifact to publish, by the final gate."""
    published: Annotated[list[Published], Field(max_length=MAX_PUBLISHED)] = []
    """The published version, with one entry per publish target."""
    baselines: Annotated[list[BaselineDigest], Field(max_length=MAX_BASELINES)] = []
    """Digests of the files in the baseline cache that pods of this job wrote or used, newest last."""
    error_rates: Annotated[list[JobErrorRate], Field(max_length=8)] = []
    """Error rates of gates that this job measured. Later jobs with the same base model do not measure them
    again."""
    stop: Stop | None = None
    """Why a gate or a task metric stopped training."""
    decisions: Annotated[list[PersonDecision], Field(max_length=MAX_DECISIONS)] = []
    """Decisions of people about stops and about the final verdict."""
    failure: Failure | None = None
    """Why the job failed, and how to fix it."""
    attempts: Annotated[list[Attempt], Field(max_length=MAX_ATTEMPTS)] = []
    """The newest finished child Jobs."""
    evictions: Annotated[list[Eviction], Field(max_length=MAX_EVICTIONS)] = []
    """The newest evicted pods."""
    running_seconds: int = 0
    """Total running time of finished pods, in seconds."""
    gpu_seconds: int = 0
    """Total GPU time of finished pods, in seconds."""
    counted_until: Time | None = None
    """Creation time of the newest failed pod whose running time is included in `runningSeconds` and
    `gpuSeconds` although its Job has not ended. Absent if there is no such pod."""
    cost: Cost | None = None
    """Measured time of training and evaluations. Absent before the first optimizer step."""
    tracking: TrackingStatus | None = None
    """Delivery of metrics that experiment trackers had not received when the job ended. Absent if the
    trackers had received everything, or if no pod ran."""
    cleanup: Cleanup | None = None
    """Result of the cleanup after `ttlSecondsAfterFinished`. Absent until the cleanup ended."""

    @property
    def best_evaluation(self) -> CheckpointStatus | None:
        """The evaluation of the best checkpoint; None if no checkpoint passed."""
        best = self.best_checkpoint
        found = (c for c in self.checkpoints if best and (c.stage, c.step) == (best.stage, best.step))
        return next(found, None)

    @property
    def verdict_decision(self) -> PersonDecision | None:
        """The decision about the final verdict, which is made once; None until then."""
        return next((each for each in self.decisions if each.action not in STOP_ACTIONS), None)

    @property
    def ready_reason(self) -> str:
        """Return the reason of the condition Ready; empty if the job is new."""
        ready = find_condition(self.conditions, ConditionType.READY)
        return ready.reason if ready else ""

    @property
    def is_data_ready(self) -> bool:
        """Return whether the data is pinned in the plan and, with `data.quality`, passed its review."""
        review = self.data.review if self.data else None
        return self.plan is not None and (review is None or review.passed is True)

    @property
    def is_held(self) -> bool:
        """Return whether the operator holds the job, because it does not understand the spec, or because a
        record is unreadable or is not the one with which the job started."""
        return self.ready_reason in HELD

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON form, without empty values."""
        return {k: v for k, v in super().to_wire().items() if v not in ({}, [], "")}
