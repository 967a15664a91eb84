"""The status of a FineTuneJob. It is an API: dashboards and Argo CD read it. Every list has a bound."""

from typing import Annotated, Any

from pydantic import Field

from tunegate_api.meta import Condition, Decimal, Message, Sha256, StatusModel, Time
from tunegate_api.v1alpha1.cost import Cost, StageMemory
from tunegate_api.v1alpha1.evaluation_status import (
    MAX_NAMED_CASES,
    BaselineDigest,
    CheckpointReference,
    CheckpointStatus,
    FinalStatus,
)
from tunegate_api.v1alpha1.reasons import ConditionType as ConditionType  # noqa: PLC0414 - a public name of this module too
from tunegate_api.v1alpha1.reasons import LifecycleStage, LifecycleState
from tunegate_api.v1alpha1.reasons import Phase as Phase  # noqa: PLC0414 - a public name of this module too
from tunegate_api.v1alpha1.reasons import Reason as Reason  # noqa: PLC0414 - a public name of this module too

MAX_CHECKPOINTS = 20
"""Checkpoints in status: the last ones, and always the best. What all of them scored is on the volume."""
MAX_IMAGE_ID = 1024
"""Characters of an image's name and digest."""
MAX_ATTEMPTS = 20
"""Finished child Jobs that status remembers."""

MAX_EVICTIONS = 10
"""Evicted pods that status remembers. As many without a new checkpoint end the job."""
MAX_BASELINES = 24
"""Cached baselines that status remembers, 160 bytes each: those of each gate, and of held-out rows."""
MAX_PUBLISHED = 4
"""Publish targets of a job."""
MAX_DECISIONS = 8
"""Decisions about stops that status remembers."""


class Failure(StatusModel):
    """What went wrong, and what to do."""

    reason: Annotated[str, Field(max_length=64)]
    """A documented constant."""
    message: Message
    """What happened, with the field, the row or the number."""
    hint: Message = ""
    """What to do about it."""


class ModelStatus(StatusModel):
    """The model as it was resolved."""

    uri: str
    """The address that the weights came from."""
    start_from: str | None = None
    """The FineTuneJob that ended with them, where the job starts from another one."""
    revision: str | None = None
    """The commit or version, where the source has one."""
    digest: Sha256
    """The digest of the weights."""


class StageSummary(StatusModel):
    """What a stage will do."""

    stage: str
    """The stage."""
    steps: int
    """Optimizer steps."""
    tokens: int
    """Tokens of one epoch, prompts included."""


class PlanStatus(StatusModel):
    """What was resolved before training: the same plan is the same run."""

    sha256: Sha256
    """The digest of the plan, but for its image."""
    config_map: str
    """The ConfigMap with the whole plan."""
    image: Annotated[str, Field(max_length=MAX_IMAGE_ID)] | None = None
    """The trainer's image that the data was prepared in, by digest, whatever its tag means by now."""
    model: ModelStatus
    """The model that training starts from."""
    memory: Annotated[list[StageMemory], Field(max_length=8)] | None = None
    """What each stage needs, by an estimate, before a GPU is asked for. None where the model's sizes are not
    known."""
    parameters: int | None = None
    """Numbers in the model's weights."""
    stages: Annotated[list[StageSummary], Field(max_length=8)] = []
    """What each stage will do."""
    advice: Annotated[list[Annotated[str, Field(max_length=512)]], Field(max_length=8)] = []
    """Which GPU would do, and which method may do better, as `tunegate plan` says it too."""


class DataStatus(StatusModel):
    """The rows, after validation and split."""

    train: int
    """Rows to train on."""
    dev: int
    """Held-out rows that score checkpoints."""
    test: int
    """Held-out rows that the final gate opens once."""
    dropped: int = 0
    """Rows left out, each with its reason in data/report.json on the volume."""
    distribution_auc: Annotated[Decimal | None, Field(alias="distributionAUC")] = None
    """How well training inputs can be told from production inputs, as the area under the ROC curve: 0.5 when
    not at all, 1 when always. None where `data.production` is left out."""
    review_score: Decimal | None = None
    """The share of the reviewed sample that was good, 0 to 1. None where `data.quality` is left out."""
    warnings: Annotated[list[Annotated[str, Field(max_length=512)]], Field(max_length=8)] = []
    """What is worth knowing about the data, though it stops nothing."""


class Progress(StatusModel):
    """How far the current stage is."""

    stage: str
    """The stage that trains."""
    step: int
    """Optimizer steps done."""
    total_steps: int
    """Optimizer steps of the stage."""
    percent: int
    """Share of the stage's steps done, 0 to 100."""
    loss: Decimal | None = None
    """Training loss at the last step."""
    tokens_per_second: Decimal | None = None
    """Training speed."""
    estimated_end: Time | None = None
    """When the stage will end at this speed."""
    gpu_memory: str | None = None
    """Peak memory of one GPU."""
    micro_batch_size: int | None = None
    """Examples of a forward pass, where it is fewer than planned for a lack of GPU memory. A step has as many
    as before."""
    activity: Annotated[str, Field(max_length=64)] | None = None
    """What the pod does at the moment, when it is not a training step: evaluating, saving."""
    updated: Time
    """When this was measured."""


class StopDecision(StatusModel):
    """What a person decided about a stop."""

    stop: str
    """The id of the stop that was decided on."""
    action: Annotated[str, Field(max_length=16)]
    """continue or discard."""
    reason: Message
    """Why, in the person's words."""
    stage: str
    """The stage that had stopped."""
    step: int
    """The step that training stood at."""
    time: Time
    """When it was decided."""


class Stop(StatusModel):
    """Why a gate stopped training. A person continues or discards."""

    id: str
    """Names this stop, so that a decision cannot meet another one."""
    stage: str
    """The stage that stopped."""
    step: int
    """The checkpoint that decided."""
    gate: str
    """The EvalGate that stopped it."""
    reason: str
    """GoldenRegression or MustPassFailed."""
    message: Message
    """The arithmetic behind it."""
    regressed_cases: Annotated[list[str], Field(max_length=MAX_NAMED_CASES)] = []
    """The first cases that passed at the best checkpoint and fail now."""
    regressed_count: int = 0
    """How many there are in all."""
    kept: CheckpointReference | None = None
    """The best checkpoint so far; none when the starting model was best."""
    steps_saved: int = 0
    """Steps that were not spent on a run that got worse."""
    seconds_saved: int | None = None
    """What the rest of the stage would have taken, by the time of its steps and evaluations so far. None
    where they were not measured. Later stages are not in it."""
    gpu_seconds_saved: int | None = None
    """The same for all its GPUs."""
    time: Time
    """When it stopped."""


class Attempt(StatusModel):
    """One finished child Job."""

    role: str
    """data, train, gate, publish, or report: a small pod that only sends what an earlier one could not."""
    stage: str | None = None
    """The stage, of train."""
    number: int
    """Attempts of a role and stage are counted from 1."""
    started: Time | None = None
    """When its first pod started."""
    finished: Time | None = None
    """When it ended."""
    result: Annotated[str, Field(max_length=64)]
    """Succeeded, or the reason of its failure."""
    last_step: int | None = None
    """The last checkpoint that existed when it ended."""


class Eviction(StatusModel):
    """A pod that the cluster ended, for a lack of room or for a pod of higher priority."""

    pod: str
    """Its name."""
    step: int
    """The last checkpoint at that time; 0 when there was none."""
    time: Time
    """When it ended."""


class Cleanup(StatusModel):
    """What became of what a finished job left, once `ttlSecondsAfterFinished` was over."""

    time: Time
    """When it ended. Jobs and pods are removed then, whatever came of the files."""
    result: Annotated[str, Field(max_length=64)]
    """Succeeded, or the reason why files are left on the volume."""
    message: Message
    """What was removed and what was kept, or where files are left."""


class TrackingStatus(StatusModel):
    """What trackers did not know when the job ended, and what came of the pods that tell them."""

    behind: Annotated[list[Annotated[str, Field(max_length=16)]], Field(max_length=4)]
    """The trackers that the job's own pods could not tell everything: mlflow, wandb."""
    attempts: int = 0
    """Pods that tried since then, in vain."""
    result: Annotated[str, Field(max_length=64)] | None = None
    """Succeeded, or TrackerBehind where something may still be missing there. None while it is tried."""
    message: Message = ""
    """What was told, or why it was not and where it is left."""
    time: Time | None = None
    """When the last pod ended, or nothing more was to be done."""


class Published(StatusModel):
    """Where the model went."""

    uri: str
    """The address of this version."""
    digest: Sha256
    """The digest of all files of the published artifact."""
    time: Time
    """When it was published."""


class LifecycleEntry(StatusModel):
    """One stage of fine-tuning, and how far it is."""

    stage: LifecycleStage
    """Which one."""
    state: LifecycleState
    """How far it is."""
    started: Time | None = None
    """When it was first seen under way."""
    finished: Time | None = None
    """When it was over, well or not."""


class Display(StatusModel):
    """Short texts for the columns of kubectl get."""

    stage: str = ""
    """Such as sft 1/2."""
    progress: str = ""
    """Such as 40%."""
    golden: str = ""
    """The golden rate of the last checkpoint, such as 0.96."""
    gate: str = ""
    """Pending, the final verdict, Failed also where a gate stopped training or no checkpoint passed, or
    NotReached when the job ended before a gate said anything."""
    best: str = ""
    """Such as step 70."""


class FineTuneJobStatus(StatusModel):
    """What the operator observed and decided."""

    observed_generation: int | None = None
    """The generation of the spec that this status is about."""
    phase: Phase | None = None
    """Where the job is, for people."""
    conditions: Annotated[list[Condition], Field(max_length=16)] = []
    """Observed facts, for machines."""
    message: Message = ""
    """What the job is doing or waiting for."""
    display: Display = Display()
    """Short texts for the columns of kubectl get."""
    lifecycle: Annotated[list[LifecycleEntry], Field(max_length=7)] = []
    """The seven stages from data preparation to monitoring, in order."""
    start_time: Time | None = None
    """When the first pod started."""
    completion_time: Time | None = None
    """When the job succeeded or failed."""
    waiting_since: Time | None = None
    """Since when the job waits for something it needs to start."""
    request: str | None = None
    """The ConfigMap with spec and gates as they were read."""
    plan: PlanStatus | None = None
    """What was resolved before training."""
    data: DataStatus | None = None
    """The rows, after validation and split."""
    progress: Progress | None = None
    """How far the current stage is."""
    start: Annotated[list[CheckpointStatus], Field(max_length=8)] = []
    """How each stage's starting model was judged."""
    checkpoints: Annotated[list[CheckpointStatus], Field(max_length=MAX_CHECKPOINTS)] = []
    """The last checkpoints, and the best."""
    checkpoints_omitted: int = 0
    """Earlier checkpoints that are not listed here."""
    best_checkpoint: CheckpointReference | None = None
    """The checkpoint that goes on: golden rate, then dev metric, then the earliest."""
    final: FinalStatus | None = None
    """The judgement of the artifact that would be published."""
    published: Annotated[list[Published], Field(max_length=MAX_PUBLISHED)] = []
    """Where the model went, one entry for each target."""
    baselines: Annotated[list[BaselineDigest], Field(max_length=MAX_BASELINES)] = []
    """Files of the baseline cache on the volume that this job's pods measured or used, the newest last."""
    stop: Stop | None = None
    """Why a gate stopped training."""
    decisions: Annotated[list[StopDecision], Field(max_length=MAX_DECISIONS)] = []
    """What people decided about stops."""
    failure: Failure | None = None
    """What went wrong, and what to do."""
    attempts: Annotated[list[Attempt], Field(max_length=MAX_ATTEMPTS)] = []
    """The last finished child Jobs."""
    evictions: Annotated[list[Eviction], Field(max_length=MAX_EVICTIONS)] = []
    """The last evicted pods."""
    running_seconds: int = 0
    """How long the pods ran that have ended."""
    gpu_seconds: int = 0
    """GPU time of the pods that have ended."""
    counted_until: Time | None = None
    """When the last pod was created that is counted in both although its child Job goes on."""
    cost: Cost | None = None
    """What training and evaluations took, measured. None before the first step."""
    tracking: TrackingStatus | None = None
    """Of a job that ended: what its trackers did not know by then. None where they knew everything, and where
    no pod ran."""
    cleanup: Cleanup | None = None
    """What became of what the finished job left. None before that, and without `ttlSecondsAfterFinished`."""

    def to_wire(self) -> dict[str, Any]:
        """JSON form without empty parts."""
        return {k: v for k, v in super().to_wire().items() if v not in ({}, [], "")}
