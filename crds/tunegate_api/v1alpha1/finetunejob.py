"""FineTuneJob: a model, data, training stages, task metrics, the gates to pass, where the result goes.

The docstring of each field is what ``kubectl explain`` prints. A default given here is what a job
resolves to when the field is left out; schemas carry no defaults, so Git never differs.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from tunegate_api.meta import ApiModel, Name, ObjectMeta
from tunegate_api.v1alpha1.data import Data
from tunegate_api.v1alpha1.fields import Key, Share, Uri
from tunegate_api.v1alpha1.finetunejob_status import MAX_PUBLISHED, FineTuneJobStatus
from tunegate_api.v1alpha1.pods import PodTemplate, Resources
from tunegate_api.v1alpha1.stages import EvaluateEvery, GateReference, Stage
from tunegate_api.v1alpha1.tracking import Tracking
from tunegate_api.v1alpha1.values import Form, Scheme

ModelUri = Annotated[
    Uri,
    Scheme(("hf", "s3", "oci", "pvc", "file", "package")),
    Form(
        "^hf://[^/@]+(/[^/@]+)?$",
        "must name a repository, hf://ORG/NAME: its commit is the revision",
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
"""Ten years: calendars end, and so should waiting."""


class ModelSource(ApiModel):
    """The model that training starts from: either `uri`, or `startFrom` an earlier job."""

    uri: Annotated[ModelUri | None, Field(examples=["pvc://models/Qwen2.5-7B-Instruct"])] = None
    """Where the weights are: hf://ORG/NAME, a folder s3://BUCKET/PREFIX, an artifact oci://REGISTRY/NAME:TAG
    or oci://REGISTRY/NAME@sha256:DIGEST, pvc://CLAIM/PATH, file://PATH (laptop only), or package://NAME for
    a model that an installed Python package carries. What is downloaded is verified, and stays on the storage
    volume for other jobs."""
    start_from: Annotated[Name | None, Field(examples=["invoice-extractor"])] = None
    """A FineTuneJob of this namespace whose model to start from: the artifact that passed its gates,
    published or not. It is waited for until it succeeds. An adapter is merged into its base, and the whole
    model is published in the end. Gates compare with this model, as their baseline BaseModel."""
    revision: Annotated[
        str | None, Field(max_length=128, examples=["a09a35458c702b33eeacc393d103063234e8bc28"])
    ] = None
    """The commit to pin, which hf:// needs, since what is under its name can change. For a branch or tag the
    plan records the commit that it is when the job starts. Other addresses have none: a tag or digest is part
    of oci://, and the plan records the digest of the weights."""
    secret_name: Annotated[Name | None, Field(examples=["hub-token"])] = None
    """The Secret with the credentials for `uri`, mounted into the data pod alone. Its keys are, for hf://
    HF_TOKEN; for s3:// AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and where they are needed
    AWS_SESSION_TOKEN, AWS_REGION and AWS_ENDPOINT_URL; for oci:// .dockerconfigjson, or username and
    password. Left out: what the pod's environment or its service account gives, or none."""
    chat_template_args: Annotated[
        dict[str, Any] | None, Field(max_length=16, examples=[{"enable_thinking": False}])
    ] = None
    """Arguments of the model's chat template by their own names, such as enable_thinking or reasoning_effort:
    texts, numbers, true or false. Training, evaluation and baselines render chats with them, and the
    published template has them as its defaults. Left out: those that the template has."""
    trust_remote_code: bool = False
    """Whether the repository's own Python code may run. Refused unless the cluster's admin allows it."""


class SchemaSource(ApiModel):
    """A JSON schema: inline, or in a ConfigMap."""

    inline: Annotated[dict[str, Any] | None, Field(examples=[{"type": "object", "required": ["total"]}])] = (
        None
    )
    """The schema itself."""
    config_map: Annotated[Name | None, Field(examples=["invoice-schema"])] = None
    """A ConfigMap of this namespace that holds the schema as JSON."""
    key: Annotated[Key | None, Field(examples=["schema.json"])] = None
    """The key in the ConfigMap. Left out: its only key."""


class TaskMetric(ApiModel):
    """One measure of the task, computed on held-out rows: on dev at each checkpoint, on test at the final
    gate."""

    name: Literal["exact_match", "json_schema", "preference_accuracy", "f1", "rouge_l"]
    """What to measure. exact_match: the share of outputs equal to the completion, white space at the ends
    apart. json_schema: the share of outputs that are JSON and follow `schema`. preference_accuracy: the share
    of held-out pairs of `data.preference` whose chosen completion is likelier than the rejected one, by the
    mean log-probability of a token. f1: for classification. rouge_l: for generation."""
    schema_: Annotated[SchemaSource | None, Field(alias="schema")] = None
    """The schema that outputs must follow. For json_schema, which needs it, and for no other metric."""
    min: Annotated[Share, Field(examples=["0.98"])]
    """The lowest value that passes on the test split, 0 to 1."""


class Storage(ApiModel):
    """The volume that holds data, checkpoints and evaluations, in one folder a job."""

    persistent_volume_claim: Annotated[Name, Field(examples=["tuning"])]
    """A PersistentVolumeClaim of this namespace. On a laptop: a folder."""


class PublishTarget(ApiModel):
    """Where a model goes that passed."""

    uri: Annotated[
        Uri,
        Scheme(("pvc", "file", "s3", "oci", "hf", "mlflow")),
        Field(examples=["pvc://models/invoice-extractor"]),
    ]
    """The address of the model, each version below it: pvc://CLAIM/PATH, file://PATH (laptop only), s3://,
    oci://, hf:// or mlflow://."""
    secret_name: Annotated[Name | None, Field(examples=["registry-login"])] = None
    """The Secret with the credentials for `uri`, mounted into the publish pod alone."""


class FineTuneJobSpec(ApiModel):
    """What to tune and what it must pass. Immutable but for suspend, the deadlines and the TTL: another
    experiment is another job."""

    model: ModelSource
    """The model to start from."""
    data: Data
    """The data to learn from."""
    task_metrics: Annotated[list[TaskMetric], Field(min_length=1, max_length=8)]
    """What the task is measured by. Without a measure nothing is trained."""
    stages: Annotated[list[Stage], Field(min_length=1, max_length=8)]
    """The training runs, in order."""
    evaluate_every: EvaluateEvery = EvaluateEvery()
    """How often a checkpoint is saved and evaluated."""
    gates: Annotated[list[GateReference], Field(min_length=1, max_length=8)]
    """The gates that every checkpoint is measured by and the final model must pass."""
    resources: Resources = Resources()
    """What a training pod asks for."""
    pod_template: PodTemplate | None = None
    """What else to set on pods."""
    queue_name: Annotated[Name | None, Field(examples=["team-a"])] = None
    """The Kueue LocalQueue that training waits in."""
    storage: Storage
    """The volume to work on."""
    tracking: Tracking | None = None
    """Experiment trackers."""
    publish: Annotated[list[PublishTarget], Field(max_length=MAX_PUBLISHED)] = []
    """Where the model goes when it passed. Left out: it stays on the storage volume."""
    merge_adapter: bool = False
    """True: an adapter is merged into its base, and the whole model is judged and published. False: the
    adapter is, unless its stage started from a merged model, which nobody else has, as after another stage or
    where `startFrom` names a job that ended with an adapter."""
    suspend: bool = False
    """True: training saves and stops, and its pods go. False again: it goes on."""
    start_timeout_seconds: Annotated[int, Field(ge=1, le=MAX_SECONDS, examples=[7200])] = 3600
    """Seconds to wait for what is missing but may come: a gate, a ConfigMap, an image, a GPU."""
    active_deadline_seconds: Annotated[int | None, Field(ge=1, le=MAX_SECONDS, examples=[14400])] = None
    """Seconds that pods may run in all, not counting time in a queue, in review or suspended. Left out: no
    limit."""
    ttl_seconds_after_finished: Annotated[int | None, Field(ge=0, le=MAX_SECONDS, examples=[604800])] = None
    """Seconds after which a finished job's checkpoints, rows, Jobs and pods are removed; status, report and a
    model that passed stay. Left out: never."""


class FineTuneJob(ApiModel):
    """Fine-tunes a model, judges every checkpoint, and publishes only what passed its gates."""

    api_version: Literal["tunegate.dev/v1alpha1"] = "tunegate.dev/v1alpha1"
    kind: Literal["FineTuneJob"] = "FineTuneJob"
    metadata: ObjectMeta
    spec: FineTuneJobSpec
    status: FineTuneJobStatus = FineTuneJobStatus()
