"""The constants in the status of a FineTuneJob: phases, lifecycle stages, condition types and reasons.

The docstring of each member is printed in docs/api/finetunejob.md. Reasons are part of the API: a new reason
may be added, but an existing reason is never renamed.
"""

from enum import StrEnum


class Phase(StrEnum):
    """The phase of a job, for people. Programs should read the conditions."""

    PENDING = "Pending"
    """The job was just created, or waits for an EvalGate, a ConfigMap or another FineTuneJob that it
    references."""
    VALIDATING = "Validating"
    """The data Job downloads the model and the data, checks them, and splits off the held-out rows."""
    AWAITING_REVIEW = "AwaitingReview"
    """The job waits until people have scored a sample of the data."""
    QUEUED = "Queued"
    """The training Job waits for a queue, a node or a GPU."""
    TRAINING = "Training"
    """A stage is training, and its checkpoints are evaluated."""
    GATING = "Gating"
    """The final gate loads the artifact to publish in a new process, and evaluates it."""
    AWAITING_APPROVAL = "AwaitingApproval"
    """The final model is evaluated. A person must approve, override or reject its verdict."""
    PUBLISHING = "Publishing"
    """The model is being copied to the targets in `publish`: it passed, or a person overrode its verdict."""
    SUCCEEDED = "Succeeded"
    """The model passed its gates, or a person overrode its verdict. It is published, or stays on the storage
    volume if `publish` has no target."""
    FAILED = "Failed"
    """The job failed, was discarded, or its model was rejected. See `status.failure` for the reason and the
    fix."""
    STOPPED = "Stopped"
    """A gate or a task metric stopped training. A person must continue or discard the job."""
    SUSPENDED = "Suspended"
    """`spec.suspend` is true. The pods of the job are deleted; a pod that trains saves a checkpoint first."""

    @property
    def is_final(self) -> bool:
        """Whether the job has ended, so that its phase cannot change."""
        return self in (Phase.SUCCEEDED, Phase.FAILED)

    @property
    def is_at_rest(self) -> bool:
        """Whether the phase changes only if a person acts, for example with ``tunegate continue``."""
        return self.is_final or self in _WAIT_FOR_A_PERSON


class LifecycleStage(StrEnum):
    """The seven stages of the fine-tuning lifecycle in order, after the survey arXiv 2408.13296, which uses
    longer names for some of them."""

    DATA_PREPARATION = "DataPreparation"
    """The data is downloaded, checked, split and pinned by digest."""
    MODEL_INITIALIZATION = "ModelInitialization"
    """The model is downloaded and verified, before a GPU is requested."""
    TRAINING_SETUP = "TrainingSetup"
    """The plan is recorded, and the job waits for a queue, a node or a GPU."""
    FINE_TUNING = "FineTuning"
    """The stages are trained, and each checkpoint is evaluated."""
    EVALUATION = "EvaluationAndValidation"
    """The final gate loads the artifact to publish in a new process, and evaluates it."""
    DEPLOYMENT = "Deployment"
    """The model is published together with its evidence."""
    MONITORING = "Monitoring"
    """EvalGates evaluate the published model on a schedule."""


class LifecycleState(StrEnum):
    """The state of a lifecycle stage."""

    PENDING = "Pending"
    """The lifecycle stage has not started."""
    RUNNING = "Running"
    """The lifecycle stage is running, or waits for something that it needs."""
    AWAITING_REVIEW = "AwaitingReview"
    """The lifecycle stage waits until people have scored a sample of the data."""
    AWAITING_APPROVAL = "AwaitingApproval"
    """The lifecycle stage waits until a person decides about the final verdict."""
    SUCCEEDED = "Succeeded"
    """The lifecycle stage ended successfully."""
    FAILED = "Failed"
    """The job failed in this lifecycle stage."""
    STOPPED = "Stopped"
    """A gate or a task metric stopped the job in this lifecycle stage. A person must continue or discard the
    job."""
    SUSPENDED = "Suspended"
    """The job is suspended in this lifecycle stage."""
    NOT_REACHED = "NotReached"
    """The job ended before this lifecycle stage."""
    NOT_REQUESTED = "NotRequested"
    """The spec does not request this lifecycle stage: for Deployment, `publish` has no target; for
    Monitoring, no EvalGate has the published model as its target."""


class ConditionType(StrEnum):
    """The condition types of a job. Ready, Reconciling and Stalled follow kstatus. Reconciling and Stalled
    are present only if True."""

    READY = "Ready"
    """True if the job succeeded, Unknown while its phase is Pending, and False otherwise."""
    RECONCILING = "Reconciling"
    """True while work is in progress, otherwise absent."""
    STALLED = "Stalled"
    """True if the job failed, is stopped or held, awaits a review or an approval, or cannot be reconciled: it
    cannot continue unless a person acts. Otherwise absent, also while the job is suspended."""
    FAILED = "Failed"
    """True if the job failed, with the reason and message of the failure. False if the job succeeded. Absent
    until the job has ended."""
    DATA_READY = "DataReady"
    """True once the data is downloaded, checked, split, pinned in the plan and, with `data.quality`, has
    passed its review. False if the job stopped or ended before this, otherwise Unknown."""
    TRAINED = "Trained"
    """True once every training stage has ended with a checkpoint that passed. False if the job stopped or
    ended before this, otherwise Unknown."""
    GATE_PASSED = "GatePassed"
    """True once the final model has passed its task metrics and all gates that are not in a dry run. False if
    the job stopped or ended before this, or if a person overrode the verdict, otherwise Unknown."""
    PUBLISHED = "Published"
    """True once the model is published to all targets in `publish`. False if the job stopped or ended before
    this, otherwise Unknown."""
    REGRESSING = "Regressing"
    """Whether the last checkpoint regressed: its pass rate is below the best so far by at least the gate's
    limit, the value of a task metric is below the best so far by at least the metric's limit, or a `mustPass`
    case that passed before fails."""


class Reason(StrEnum):
    """The reason of a condition, or the reason why a job waits, stopped or failed."""

    # in progress
    PENDING = "Pending"
    """No work has started yet."""
    PROGRESSING = "Progressing"
    """Work is in progress."""
    SUCCEEDED = "Succeeded"
    """The work is done."""
    SUSPENDED = "Suspended"
    """`spec.suspend` is true."""
    NOT_REQUESTED = "NotRequested"
    """The spec does not request publishing: `publish` has no target, so a model that passed stays on the
    volume."""
    # waiting
    GATE_NOT_FOUND = "GateNotFound"
    """An EvalGate that the job references does not exist yet."""
    GATE_NOT_READY = "GateNotReady"
    """An EvalGate that the job references is not ready. See the conditions of the EvalGate."""
    REQUIRED_GATES_UNKNOWN = "RequiredGatesUnknown"
    """The annotation `tunegate.dev/required-gates` of the namespace is malformed, or the operator may not
    read the namespace, so the operator does not know which gates the job must name."""
    START_FROM_NOT_FOUND = "StartFromNotFound"
    """The FineTuneJob in `model.startFrom` does not exist yet."""
    START_FROM_NOT_READY = "StartFromNotReady"
    """The FineTuneJob in `model.startFrom` has not succeeded yet."""
    CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound"
    """A ConfigMap that the job or its EvalGate references does not exist yet, or lacks a key that a pod
    needs."""
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105 - a reason, no secret
    """A Secret that a pod uses does not exist yet, or lacks a key."""
    VOLUME_NOT_READY = "VolumeNotReady"
    """A PersistentVolumeClaim does not exist yet or is not bound, or its volume is still attached to another
    node."""
    QUOTA_EXCEEDED = "QuotaExceeded"
    """A resource quota of the namespace is exhausted."""
    FORBIDDEN = "Forbidden"
    """The API server does not allow a child Job or its pod: an admission policy denies it, or the operator
    lacks a permission."""
    NAME_TAKEN = "NameTaken"
    """The name of a child Job is taken by another Job, or by a Job that is still being deleted."""
    POD_NOT_STARTED = "PodNotStarted"
    """The pod of the step has not started: it is being created, cannot start yet, or replaces a pod that
    failed."""
    POD_UNSCHEDULABLE = "PodUnschedulable"
    """No node can run the pod: each node lacks a free GPU, memory, or a volume in its zone, or has a taint
    that the pod does not tolerate."""
    IMAGE_PULL = "ImagePull"
    """The trainer image cannot be pulled."""
    AWAITING_REVIEW = "AwaitingReview"
    """People have not scored all rows of the review sample yet."""
    AWAITING_APPROVAL = "AwaitingApproval"
    """The final model passed, and a gate requires that a person approves it."""
    AWAITING_OVERRIDE = "AwaitingOverride"
    """The final model did not pass, and the gates allow a person to override the verdict."""
    # held
    SPEC_NOT_UNDERSTOOD = "SpecNotUnderstood"
    """The job has started, but this version of the operator does not understand its spec, for example after a
    rollback. Pods continue to run. The operator starts and deletes nothing until it understands the spec."""
    RECORD_UNREADABLE = "RecordUnreadable"
    """A ConfigMap with the job's request, plan or results is unreadable, because it was edited, or written by
    another version of the operator. The operator starts and deletes nothing until the ConfigMap is
    readable."""
    REQUEST_CHANGED = "RequestChanged"
    """The ConfigMap with the request of a job that has started was deleted, or does not have the digest in
    `status.requestSha256`. The operator starts, judges and deletes nothing until it is restored."""
    # stopped by a gate or a task metric
    GOLDEN_REGRESSION = "GoldenRegression"
    """The golden pass rate of a checkpoint is below the best so far by at least the gate's limit."""
    MUST_PASS_FAILED = "MustPassFailed"  # noqa: S105 - no password, though it has "pass" in it
    """A `mustPass` case fails at a checkpoint, and passed before on the starting model or on an earlier
    checkpoint."""
    TASK_METRIC_REGRESSION = "TaskMetricRegression"
    """The value of a task metric at a checkpoint is below the best so far by at least the metric's limit."""
    SAFETY_REGRESSION = "SafetyRegression"
    """A checkpoint has more unsafe answers or refuses more harmless requests than the starting model of its
    stage, by more than the gate allows."""
    REGRESSING = "Regressing"
    """A checkpoint regressed. The next checkpoint is evaluated early to confirm the regression."""
    TASK_METRIC_REGRESSING = "TaskMetricRegressing"
    """A task metric of a checkpoint regressed. The next checkpoint is evaluated early to confirm the
    regression."""
    SAFETY_REGRESSING = "SafetyRegressing"
    """A checkpoint regressed on a safety set. The next checkpoint is evaluated early to confirm the
    regression."""
    # failed
    INVALID_SPEC = "InvalidSpec"
    """The spec contradicts itself. No pod was started."""
    REQUIRED_GATES_MISSING = "RequiredGatesMissing"
    """`spec.gates` lacks a gate that the namespace or the cluster requires of every job. No pod was
    started."""
    START_FROM_FAILED = "StartFromFailed"
    """The FineTuneJob in `model.startFrom` failed or was discarded, so there is no model to start from."""
    REFUSED = "Refused"
    """The API server permanently refused a child Job or ConfigMap."""
    START_TIMEOUT = "StartTimeout"
    """Something that the job waited for was not available within `startTimeoutSeconds`."""
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    """The pods ran longer than `activeDeadlineSeconds`."""
    BAD_DATA = "BadData"
    """Rows, golden cases or model files cannot be used. For example, they are malformed, prompts of golden
    cases are in the training data, or a file does not have the expected digest."""
    TOO_FEW_ROWS = "TooFewRows"
    """There are fewer training rows than `data.goal` requires, or fewer pairs if no stage is SFT."""
    REVIEW_FAILED = "ReviewFailed"
    """The share of good rows in the review sample is less than `data.quality.minScore`."""
    NOT_FOUND = "NotFound"
    """The model or a data file was not found at its address."""
    CREDENTIALS = "Credentials"
    """A source or a publish target refused the credentials, or a Secret lacks a key or cannot be read."""
    UNREACHABLE = "Unreachable"
    """A source or a publish target was unreachable, even after several retries."""
    USER_ERROR = "UserError"
    """The spec does not fit this model or this data."""
    GPU_TOO_SMALL = "GpuTooSmall"
    """A stage or the final gate does not fit one GPU, according to the memory estimate. One GPU has
    `resources.gpu.memory` or, if it is not set, the memory of the largest GPU. No GPU was requested."""
    NO_ACCELERATOR = "NoAccelerator"
    """The pod has no GPU, although it requested one."""
    CUDA_OUT_OF_MEMORY = "CudaOutOfMemory"
    """The pod ran out of GPU memory."""
    OUT_OF_MEMORY = "OutOfMemory"
    """The pod exceeded its host memory limit."""
    STORAGE = "Storage"
    """A volume is full or read-only, or files on it are damaged, missing or unreadable, or changed while they
    were used."""
    EVICTED = "Evicted"
    """The pod was evicted, or preempted by a pod with a higher priority."""
    NODE_LOST = "NodeLost"
    """The node of the pod was shut down, or is unreachable."""
    PEER_LOST = "PeerLost"
    """Another pod of the distributed training ended or did not start, and no pod reported a cause."""
    KILLED = "Killed"
    """Something other than Tunegate killed the pods of a child Job, and the Job has no retries left."""
    INTERNAL_ERROR = "InternalError"
    """A bug in Tunegate, or a child Job failed and no pod reported why. The message contains the last lines
    of the log, if there is one. If the job has not failed: the operator cannot reconcile it because of a bug.
    It retries, and shows this in the condition Stalled and in an event."""
    REPORT_MISSING = "ReportMissing"
    """The pods of a child Job ended, but the operator did not receive their results."""
    TRACKER_BEHIND = "TrackerBehind"
    """An experiment tracker did not receive all metrics. Only used in `status.tracking`."""
    NO_CHECKPOINT_CAN_PASS = "NoCheckpointCanPass"  # noqa: S105 - no password, though it has "pass" in it
    """A stage was not trained, or not to its end, because no checkpoint can pass its gates, even one that
    passes every case. The evaluation of the starting model showed this. For example, there are too few cases
    for the policy NonInferior, or too many outputs of the base model were truncated."""
    NO_PASSING_CHECKPOINT = "NoPassingCheckpoint"
    """No checkpoint of a stage passed its gates, and the nearest one failed."""
    GATE_FAILED = "GateFailed"
    """The final model was evaluated and did not pass."""
    GATE_ERROR = "GateError"
    """The final model could not be evaluated, no checkpoint of a stage passed and the nearest one could not
    be evaluated, or a stage ended early although its results give no reason to stop."""
    GATE_INCONCLUSIVE = "GateInconclusive"
    """The final model was evaluated, but there are too few cases to decide, or too many outputs of a baseline
    were truncated."""
    DISCARDED = "Discarded"
    """A person discarded the stopped job, for example with `tunegate discard`."""
    REJECTED = "Rejected"
    """A person rejected the final model, for example with `tunegate reject`."""
    OVERRIDDEN = "Overridden"
    """A person overrode the verdict of a final model that did not pass. Only used in the condition
    GatePassed, which is False."""
    NOT_ENFORCED = "NotEnforced"
    """All gates of the job are in a dry run, so only the task metrics were enforced. Only used in the
    condition GatePassed, which is True."""


_WAIT_FOR_A_PERSON = (Phase.STOPPED, Phase.SUSPENDED, Phase.AWAITING_REVIEW, Phase.AWAITING_APPROVAL)
"""Phases that end only when a person acts."""
HELD = (Reason.SPEC_NOT_UNDERSTOOD, Reason.RECORD_UNREADABLE, Reason.REQUEST_CHANGED)
"""Reasons for which the operator holds a job that has started."""
TO_FIX = (
    Reason.GATE_NOT_FOUND,
    Reason.GATE_NOT_READY,
    Reason.REQUIRED_GATES_UNKNOWN,
    Reason.START_FROM_NOT_FOUND,
    Reason.CONFIG_MAP_NOT_FOUND,
    Reason.SECRET_NOT_FOUND,
    Reason.VOLUME_NOT_READY,
    Reason.FORBIDDEN,
    Reason.IMAGE_PULL,
)
"""Reasons for which a job waits until a person creates or corrects something, or until the job times out."""


def waits_for_a_person(phase: Phase | None, reason: str) -> bool:
    """Return whether a job that has not ended makes progress only if a person acts. ``reason`` is the reason
    of the condition Ready.

    The commands that follow a job do not end for a reason in :data:`TO_FIX`, because the missing object may
    have been applied together with the job.
    """
    if phase is not None and phase.is_final:
        return False
    return phase in _WAIT_FOR_A_PERSON or reason in (*HELD, *TO_FIX)
