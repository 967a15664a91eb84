"""The types of a FineTuneJob's spec: model, data, training stages, task metrics, gates and publish targets.

``kubectl explain`` prints the docstring of each field. A default value is applied when a job is read. The
schemas have no defaults, so the API server does not add fields to an object, and a GitOps tool sees no
difference.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from tunegate_api.meta import ApiModel, Decimal, Name, ObjectMeta, ObjectName, Sha256
from tunegate_api.v1alpha2.data import Data
from tunegate_api.v1alpha2.evaluation import EvaluationSettings
from tunegate_api.v1alpha2.fields import Key, MetricName, Uri
from tunegate_api.v1alpha2.finetunejob_status import MAX_PUBLISHED, FineTuneJobStatus
from tunegate_api.v1alpha2.pods import PodTemplate, Resources
from tunegate_api.v1alpha2.shares import Percent, PositivePercent
from tunegate_api.v1alpha2.stages import GateReference, Stage
from tunegate_api.v1alpha2.tracking import Tracking
from tunegate_api.v1alpha2.values import AllowedSchemes, Between, Form

ModelUri = Annotated[
    Uri,
    AllowedSchemes(("hf", "s3", "oci", "pvc", "file", "package")),
    Form(
        "^hf://[^/@]+(/[^/@]+)?$",
        "must name a repository, hf://ORG/NAME: give the commit as revision",
        start="hf://",
    ),
    Form("^s3://[^/]+/+[^/]", "must name a bucket and a folder in it, s3://BUCKET/PREFIX", start="s3://"),
    Form(
        "^oci://[^/@]+/[^:@]+(:[^:@/]+|(:[^:@/]+)?@sha256:[0-9a-f]{64})$",
        "must name an artifact with a tag or a digest, oci://REGISTRY/NAME:TAG or oci://REGISTRY/NAME@sha256:DIGEST",
        start="oci://",
    ),
]
MAX_SECONDS = 10 * 365 * 86400
"""Maximum of a duration in a spec: ten years in seconds, so that a time in the future never exceeds the range
of ``datetime``."""


class ModelSource(ApiModel):
    """The model that training starts from. Either `uri` or `startFrom` must be set."""

    uri: Annotated[ModelUri | None, Field(examples=["pvc://models/Qwen2.5-7B-Instruct"])] = None
    """Address of the weights: hf://ORG/NAME, s3://BUCKET/PREFIX (a folder), oci://REGISTRY/NAME:TAG,
    oci://REGISTRY/NAME@sha256:DIGEST, pvc://CLAIM/PATH, file://PATH (only with `tunegate run`), or
    package://NAME for a model in an installed Python package. Downloads are verified, and kept on the
    storage volume for other jobs."""
    start_from: Annotated[Name | None, Field(examples=["invoice-extractor"])] = None
    """Name of a FineTuneJob in the same namespace. This job waits until the named job succeeds, and starts
    from the artifact that passed its gates, even if it was not published. An adapter is merged into its base
    model, and this job publishes a whole model. The baseline BaseModel of
    this job's gates is the model that this job starts from."""
    revision: Annotated[
        str | None, Field(max_length=128, examples=["a09a35458c702b33eeacc393d103063234e8bc28"])
    ] = None
    """Commit, branch or tag of an hf:// repository. Required for hf://, because the content of a repository
    can change, and not allowed for other schemes. For a branch or tag, the plan records its commit when the
    job starts. For every scheme, the plan records the digest of the weights."""
    sha256: Annotated[
        Sha256 | None, Field(examples=["9f2c4b1de07a5c3f86e1d94ab3705c2e8d6f19a0b4c7e3521f8a6d0c9e7b3142"])
    ] = None
    """SHA-256 digest that the model at `uri` must have, as in `status.plan.model` of an earlier job, or for a
    GGUF file as `sha256sum` prints it. The data pod compares it, also for a model that is already on the
    volume. If omitted, any content is accepted."""
    secret_name: Annotated[ObjectName | None, Field(examples=["hub-token"])] = None
    """Name of the Secret with the credentials for `uri`. It is mounted only into the data pod. Keys for
    hf://: HF_TOKEN; for s3://: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, and optionally AWS_SESSION_TOKEN,
    AWS_REGION and AWS_ENDPOINT_URL; for oci://: .dockerconfigjson, or username and password. If
    omitted, the pod uses the credentials in its environment or of its ServiceAccount, if there are any."""
    chat_template_args: Annotated[
        dict[str, Any] | None, Field(max_length=16, examples=[{"enable_thinking": False}])
    ] = None
    """Arguments of the model's chat template, such as enable_thinking or reasoning_effort: strings, numbers
    or booleans. They apply in training, evaluations and baselines, and become defaults of the published chat
    template. Defaults to the chat template's own values."""


class SchemaSource(ApiModel):
    """A JSON schema, inline or in a ConfigMap."""

    inline: Annotated[dict[str, Any] | None, Field(examples=[{"type": "object", "required": ["total"]}])] = (
        None
    )
    """The JSON schema itself."""
    config_map: Annotated[ObjectName | None, Field(examples=["invoice-schema"])] = None
    """Name of a ConfigMap in the same namespace that holds the JSON schema."""
    key: Annotated[Key | None, Field(examples=["schema.json"])] = None
    """Key in the ConfigMap. Defaults to its only key."""


TextForm = Literal["Case", "WhiteSpace", "Punctuation", "Unicode"]
"""A difference between two texts that a comparison ignores."""


EntryPoint = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=64)]


class Tolerance(ApiModel):
    """The largest allowed distance from the labelled number. At least one of the fields must be set. If both
    are set, the larger of the two distances is allowed."""

    absolute: Annotated[Decimal, Between(least=0), Field(examples=["0.01"])] | None = None
    """Allowed distance as a number."""
    relative: Annotated[Percent, Field(examples=["5%"])] | None = None
    """Allowed distance as a share of the labelled number."""


MetricType = Literal[
    "ExactMatch", "JSONSchema", "PreferenceAccuracy", "F1", "RougeL", "Numeric", "ToolCalls", "Custom"
]


class MetricCheckpoints(ApiModel):
    """When the value of a metric at a checkpoint stops training."""

    on_regression: Literal["Confirm", "Immediate"] = "Confirm"
    """When a regression stops training. Confirm: the next checkpoint is evaluated early, and training stops
    if it regresses too. Immediate: training stops at the first regression."""
    fail_at_drop: Annotated[PositivePercent, Field(examples=["10%"])]
    """Drop of the value below the best value of the stage so far that is a regression: 0.01 of the value is
    1%."""


class TaskMetric(ApiModel):
    """A metric of the task. It is computed on held-out rows: on the dev split for each checkpoint, and on the
    test split for the final model."""

    name: Annotated[MetricName, Field(examples=["exact_match"])]
    """Name of the metric in status, reports and trackers."""
    type: MetricType
    """What is measured. ExactMatch: share of outputs that equal the completion, ignoring leading and trailing
    white space. JSONSchema: share of outputs that are JSON and follow `schema`. PreferenceAccuracy: share of
    held-out pairs in which the chosen completion has a higher mean log-probability per token than the
    rejected one. F1: F1 score, for classification; the label is the whole completion. RougeL: mean ROUGE-L
    F-measure, for text generation. Numeric: share of outputs whose first number equals the number in the
    completion, within `tolerance`. ToolCalls: share of outputs that make the tool calls of the completion.
    Custom: mean score of the Python object `entryPoint`."""
    schema_: Annotated[SchemaSource | None, Field(alias="schema")] = None
    """JSON schema that outputs must follow. Required for the type JSONSchema, and not allowed otherwise."""
    average: Literal["Micro", "Macro"] | None = None
    """How F1 averages over the labels. Micro: over all rows, which is the share of rows with the right label.
    Macro: the mean of the F1 scores of all labels. Only for F1. Defaults to Micro."""
    normalize: Annotated[
        list[TextForm] | None,
        Field(min_length=1, max_length=4, examples=[["Case", "WhiteSpace"]]),
    ] = None
    """Differences between output and completion that ExactMatch ignores: of case, of the amount of white
    space, of punctuation, and between forms of the same character (NFKC). Only for ExactMatch."""
    tolerance: Tolerance | None = None
    """Largest allowed distance from the labelled number. Only for Numeric. If omitted, the numbers must be
    equal."""
    entry_point: Annotated[EntryPoint | None, Field(examples=["chrf"])] = None
    """Name of an entry point of the group tunegate.scorers, in a Python package that is installed in the
    trainer image. Required for the type Custom, and not allowed otherwise."""
    min: Annotated[Percent, Field(examples=["98%"])]
    """Minimum value that the final model must reach on the test split."""
    checkpoints: MetricCheckpoints | None = None
    """When a checkpoint with a lower value on the dev split stops training. If omitted, the metric does not
    stop training."""


class Storage(ApiModel):
    """The volume for data, checkpoints and evaluations. Each job has a folder on it."""

    persistent_volume_claim: Annotated[ObjectName, Field(examples=["tuning"])]
    """Name of a PersistentVolumeClaim in the same namespace. With `tunegate run`, a local folder is used
    instead."""
    on_delete: Literal["Keep", "Delete"] | None = None
    """What happens to the job's folder on the volume when the FineTuneJob is deleted. Keep: its files stay.
    Delete: its pods are ended, then a pod removes its files, for at most an hour, and then the FineTuneJob
    disappears. Published models and base models are kept. Defaults to Keep."""


class PublishTarget(ApiModel):
    """A location to which a model that passed is published."""

    uri: Annotated[
        Uri,
        AllowedSchemes(("pvc", "file")),
        Field(examples=["pvc://models/invoice-extractor"]),
    ]
    """Address of the model: pvc://CLAIM/PATH or, only with `tunegate run`, file://PATH. Each version is
    stored in a folder below this address."""


class ArtifactSettings(ApiModel):
    """The model that a job ends with: its files are judged by the gates and published."""

    form: Literal["Adapter", "Merged"] = "Adapter"
    """What is judged and published if the last stage trains an adapter. Adapter: the adapter, unless nobody
    else has its base model: if an earlier stage trained the base model, or `startFrom` names a job that ended
    with an adapter, the whole model is published. Merged: the whole model, into which the adapter is merged.
    Merged is refused if the last stage trains all weights, because the whole model is published anyway."""


class FineTuneJobSpec(ApiModel):
    """Specification of a FineTuneJob: what to train, and the gates that the model must pass. Only `suspend`,
    `startTimeoutSeconds`, `activeDeadlineSeconds` and `ttlSecondsAfterFinished` can be changed. For another
    experiment, create another job."""

    model: ModelSource
    """The model to start from."""
    data: Data
    """The training data, and how to hold out rows."""
    task_metrics: Annotated[list[TaskMetric], Field(min_length=1, max_length=8)]
    """The metrics of the task. At least one is required."""
    stages: Annotated[list[Stage], Field(min_length=1, max_length=8)]
    """The training stages, in order."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """How often checkpoints are evaluated, and in which batches."""
    gates: Annotated[list[GateReference], Field(min_length=1, max_length=8)]
    """The EvalGates that evaluate every checkpoint, and that the final model must pass."""
    resources: Resources = Resources()
    """Compute resources of the training pods."""
    pod_template: PodTemplate | None = None
    """Further settings of the pods, such as labels, tolerations and volumes."""
    storage: Storage
    """The volume for data, checkpoints and evaluations."""
    tracking: Tracking | None = None
    """Experiment trackers that the job reports to."""
    publish: Annotated[list[PublishTarget], Field(max_length=MAX_PUBLISHED)] = []
    """Locations to which the model is published if it passes. If omitted, the model stays on the storage
    volume."""
    artifact: ArtifactSettings = ArtifactSettings()
    """The model that the gates judge and that is published."""
    suspend: bool = False
    """If true, training saves a checkpoint and stops, and its pods are deleted. Set `suspend` to false to
    resume training from that checkpoint."""
    start_timeout_seconds: Annotated[int, Field(ge=1, le=MAX_SECONDS, examples=[7200])] = 3600
    """Maximum time in seconds that the job waits for something that is missing, such as a gate, a ConfigMap,
    an image or a GPU. After this time, the job fails with StartTimeout."""
    active_deadline_seconds: Annotated[int | None, Field(ge=1, le=MAX_SECONDS, examples=[14400])] = None
    """Maximum total running time of the job's pods in seconds. Time in which the job waits in a
    queue or for a review, or is suspended, does not count. If omitted, there is no limit."""
    ttl_seconds_after_finished: Annotated[int | None, Field(ge=0, le=MAX_SECONDS, examples=[604800])] = None
    """Time in seconds after which the checkpoints, rows, Jobs and pods of a finished job are deleted. The
    status, the report and a model that passed are kept. If omitted, nothing is deleted."""


class FineTuneJob(ApiModel):
    """FineTuneJob fine-tunes a model, evaluates every checkpoint, and publishes only a model that passed its
    gates."""

    api_version: Literal["tunegate.dev/v1alpha2"] = "tunegate.dev/v1alpha2"
    kind: Literal["FineTuneJob"] = "FineTuneJob"
    metadata: ObjectMeta
    spec: FineTuneJobSpec
    status: FineTuneJobStatus = FineTuneJobStatus()
