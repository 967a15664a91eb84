"""FineTuneJob: a model, data, training stages, task metrics, the gates to pass, where the result goes.

The docstring of each field is what ``kubectl explain`` prints. A default given here is what a job
resolves to when the field is left out; schemas carry no defaults, so Git never differs.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from tunegate_api.meta import ApiModel, Decimal, Name, ObjectMeta, Sha256
from tunegate_api.v1alpha1.finetunejob_status import FineTuneJobStatus

Uri = Annotated[str, Field(pattern=r"^[a-z][a-z0-9+.-]*://\S+$", max_length=1024)]
ShortName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=20)]
Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$", max_length=32)]
ColumnName = Annotated[str, Field(min_length=1, max_length=128)]


class ModelSource(ApiModel):
    """The model that training starts from: either `uri`, or `startFrom` an earlier job."""

    uri: Uri | None = None
    """Where the weights are: hf://ORG/NAME, s3://, oci://, pvc://CLAIM/PATH, file://PATH (laptop only), or
    package://NAME for a model that an installed Python package carries."""
    start_from: Name | None = None
    """A FineTuneJob of this namespace whose published model to start from."""
    revision: Annotated[str, Field(max_length=128)] | None = None
    """The commit or version to pin. Needed where the source can change under its name (hf://)."""
    secret_name: Name | None = None
    """The Secret with the credentials for `uri`, mounted into the data pod alone."""
    trust_remote_code: bool = False
    """Whether the repository's own Python code may run. Refused unless the cluster's admin allows it."""


class Columns(ApiModel):
    """Which fields of a row to read, when they have names of their own."""

    prompt: ColumnName | None = None
    """The field with the prompt."""
    completion: ColumnName | None = None
    """The field with the completion."""
    messages: ColumnName | None = None
    """The field with the chat: a list of {role, content}."""
    id: ColumnName | None = None
    """The field that identifies a row in reports."""


class DataSource(ApiModel):
    """JSON Lines, from a volume or, up to about 200 KiB, from a ConfigMap."""

    uri: Uri | None = None
    """Where the file is: pvc://CLAIM/PATH, file://PATH (laptop only), hf:// or s3://."""
    config_map: Name | None = None
    """A ConfigMap of this namespace that holds the file."""
    key: Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)] | None = None
    """The key in the ConfigMap. Needed only when it has more than one."""
    sha256: Sha256 | None = None
    """The digest that the file must have. Another one fails the job before anything trains."""
    columns: Columns = Columns()
    """Which fields to read. Left out: `prompt` and `completion`, or `messages`."""
    secret_name: Name | None = None
    """The Secret with the credentials for `uri`."""


class HeldOut(ApiModel):
    """The labelled rows kept away from training, in two equal parts: dev scores checkpoints, test is opened
    once, by the final gate."""

    fraction: Decimal = "0.12"
    """The share of rows to keep away, 0.10 to 0.15 by good practice."""
    group_by: ColumnName | None = None
    """A field whose equal values stay together, in training or outside it. Left out: the prompt."""


class Quality(ApiModel):
    """A sample of completions that must be scored before training."""

    sample: Decimal = "0.08"
    """The share of rows to score, 0.05 to 0.10."""
    review: Literal["Manual", "Judge"] = "Manual"
    """Who scores: people, or a calibrated LLM judge."""
    min_score: Decimal = "0.9"
    """The share of the sample that must be good."""


Goal = Literal["StyleOrFormat", "DomainVocabulary", "TaskSpecialization", "InstructionFollowing"]


class Data(ApiModel):
    """What to learn from, and what to hold away from learning."""

    goal: Goal
    """What the tuning is for. It sets how many training rows are needed: StyleOrFormat 200, DomainVocabulary
    500, TaskSpecialization 1,000, InstructionFollowing 2,000."""
    size_policy: Literal["Refuse", "Warn"] = "Refuse"
    """What happens when there are fewer rows than `goal` needs."""
    train: DataSource
    """Labelled rows: prompt and completion, or chat messages. Training and held-out rows are split from it."""
    preference: DataSource | None = None
    """Rows of prompt, chosen and rejected, for DPO stages."""
    production: DataSource | None = None
    """A sample of production inputs, to compare the training inputs with."""
    held_out: HeldOut = HeldOut()
    """How to split off the rows that evaluate."""
    quality: Quality | None = None
    """The review of a sample before training."""


class SchemaSource(ApiModel):
    """A JSON schema: inline, or in a ConfigMap."""

    inline: dict[str, Any] | None = None
    """The schema itself."""
    config_map: Name | None = None
    """A ConfigMap of this namespace that holds the schema as JSON."""
    key: Annotated[str, Field(max_length=253)] | None = None
    """The key in the ConfigMap. Needed only when it has more than one."""


class TaskMetric(ApiModel):
    """One measure of the task, computed on held-out rows: on dev at each checkpoint, on test at the final
    gate."""

    name: Literal["exact_match", "json_schema", "f1", "rouge_l"]
    """exact_match: the share of outputs equal to the completion, white space at the ends apart. json_schema:
    the share of outputs that are JSON and follow `schema`. f1: for classification. rouge_l: for generation."""
    schema_: Annotated[SchemaSource | None, Field(alias="schema")] = None
    """The schema for json_schema."""
    min: Decimal
    """The lowest value, from 0 to 1, that passes on the test split."""


class Adapter(ApiModel):
    """Which small set of weights to train beside the frozen base. A stage without one trains all weights."""

    type: Literal["LoRA"] | None = None
    """LoRA: a new low-rank adapter."""
    from_: Annotated[Literal["Previous"] | None, Field(alias="from")] = None
    """Previous: go on training the adapter of the stage before, in its shape."""
    r: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Rank of the update. Left out: 16."""
    alpha: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Scale of the update: it is multiplied by alpha / r. Left out: twice `r`."""
    dropout: Decimal | None = None
    """Dropout on the adapter's input. Left out: 0."""
    target_modules: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=128)]], Field(min_length=1, max_length=64)
        ]
        | None
    ) = None
    """Names of the layers that get an adapter, or all-linear. Left out: all-linear."""


class Training(ApiModel):
    """How to train. What is left out is resolved by method and stands in the plan."""

    epochs: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Passes over the training rows. Left out: 3, unless `maxSteps` is given."""
    max_steps: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Optimizer steps, instead of `epochs`."""
    learning_rate: Decimal | None = None
    """Peak learning rate. Left out: 2e-4 for an adapter, 1e-5 for all weights, 5e-6 for DPO."""
    scheduler: Literal["linear", "cosine", "constant"] | None = None
    """How the learning rate moves after warm-up. Left out: linear, down to 0."""
    warmup_fraction: Decimal | None = None
    """The share of steps over which the learning rate rises from 0. Left out: 0.03."""
    weight_decay: Decimal | None = None
    """AdamW's weight decay. Left out: 0."""
    max_grad_norm: Decimal | None = None
    """Gradients are scaled down to this norm. Left out: 1."""
    batch_size: Annotated[int, Field(ge=1, le=65536)] | None = None
    """Examples per optimizer step, whatever they are packed or split into. Left out: 16."""
    max_length: Annotated[int, Field(ge=8, le=1_048_576)] | None = None
    """Longest example in tokens. Longer ones are counted, and refused beyond 1 % of the rows. Left out: 2048,
    or what the model can take."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """Decides the split, the order of rows and the adapter's first weights. Left out: 42."""
    beta: Decimal | None = None
    """DPO: how closely to stay to the reference model. Left out: 0.1."""


class GateReference(ApiModel):
    """A gate that must be passed."""

    name: Name
    """An EvalGate of this namespace."""


class Stage(ApiModel):
    """One training run. Stages run in order; each starts from the best passing checkpoint of the one before."""

    name: ShortName
    """Names the stage in status, files and child Jobs."""
    method: Literal["SFT", "DPO"]
    """SFT: learn from completions. DPO: learn from preferences."""
    adapter: Adapter | None = None
    """The adapter to train. Left out: all weights are trained."""
    quantization: Literal["NF4"] | None = None
    """NF4: hold the frozen base in 4 bits (QLoRA)."""
    training: Training = Training()
    """How to train."""
    gates: Annotated[list[GateReference], Field(min_length=1, max_length=8)] | None = None
    """Gates for this stage's checkpoints, instead of the job's."""


class EvaluateEvery(ApiModel):
    """How often a checkpoint is saved and evaluated: a share of the stage, or a number of steps."""

    fraction: Decimal | None = None
    """The share of the stage's steps between checkpoints, 0.01 to 1. Left out: 0.2, unless `steps` is given."""
    steps: Annotated[int, Field(ge=1)] | None = None
    """Optimizer steps between checkpoints."""


class Gpu(ApiModel):
    count: Annotated[int, Field(ge=1, le=64)] = 1
    """GPUs per node."""
    memory: Quantity | None = None
    """Memory of one GPU, to refuse early what cannot fit."""


class Resources(ApiModel):
    """What a training pod asks for."""

    accelerator: Literal["GPU", "CPU"] = "GPU"
    """CPU: train without a GPU, as small examples do."""
    gpu: Gpu | None = None
    """The GPUs, when the accelerator is GPU. Left out: one."""
    cpu: Quantity | None = None
    """CPU cores to request."""
    memory: Quantity | None = None
    """Host memory, as request and limit."""
    nodes: Annotated[int, Field(ge=1, le=1024)] = 1
    """Machines that train together. More than one needs a ReadWriteMany volume."""


class SecretReference(ApiModel):
    name: Name
    """A Secret of this namespace."""


class PodTemplate(ApiModel):
    """What a user may set on the pods. The operator owns the rest."""

    labels: Annotated[dict[str, str], Field(max_length=32)] | None = None
    annotations: Annotated[dict[str, str], Field(max_length=32)] | None = None
    node_selector: Annotated[dict[str, str], Field(max_length=32)] | None = None
    tolerations: Annotated[list[dict[str, Any]], Field(max_length=32)] | None = None
    affinity: dict[str, Any] | None = None
    priority_class_name: Name | None = None
    service_account_name: Name | None = None
    image_pull_secrets: Annotated[list[SecretReference], Field(max_length=8)] | None = None
    env: Annotated[list[dict[str, Any]], Field(max_length=64)] | None = None
    """Environment variables; values of credentials from Secrets."""
    volumes: Annotated[list[dict[str, Any]], Field(max_length=16)] | None = None
    volume_mounts: Annotated[list[dict[str, Any]], Field(max_length=16)] | None = None
    shared_memory: Quantity | None = None
    """Size of /dev/shm."""
    termination_grace_period_seconds: Annotated[int, Field(ge=0, le=3600)] | None = None


class Storage(ApiModel):
    """The volume that holds data, checkpoints and evaluations, in one folder a job."""

    persistent_volume_claim: Name
    """A PersistentVolumeClaim of this namespace. On a laptop: a folder."""


class Mlflow(ApiModel):
    uri: Annotated[str, Field(max_length=1024)]
    """The tracking server."""
    experiment: Annotated[str, Field(max_length=256)]
    """The experiment that runs are written to."""
    secret_name: Name | None = None


class WeightsAndBiases(ApiModel):
    project: Annotated[str, Field(max_length=256)]
    entity: Annotated[str, Field(max_length=256)] | None = None
    secret_name: Name | None = None


class Tracking(ApiModel):
    """Experiment trackers that receive parameters, metrics and verdicts."""

    mlflow: Mlflow | None = None
    wandb: WeightsAndBiases | None = None


class PublishTarget(ApiModel):
    """Where a model goes that passed."""

    uri: Uri
    """pvc://CLAIM/PATH, s3://, oci://, hf:// or mlflow://."""
    secret_name: Name | None = None
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
    queue_name: Name | None = None
    """The Kueue LocalQueue that training waits in."""
    storage: Storage
    """The volume to work on."""
    tracking: Tracking | None = None
    """Experiment trackers."""
    publish: Annotated[list[PublishTarget], Field(max_length=4)] = []
    """Where the model goes when it passed. Left out: it stays on the storage volume."""
    suspend: bool = False
    """True: training saves and stops, and its pods go. False again: it goes on."""
    start_timeout_seconds: Annotated[int, Field(ge=1)] = 3600
    """How long to wait for what is missing but may come: a gate, a ConfigMap, an image, a GPU."""
    active_deadline_seconds: Annotated[int, Field(ge=1)] | None = None
    """How long pods may run in all, not counting time in a queue or in review. Left out: no limit."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0)] | None = None
    """When to remove what a finished job left, its status apart. Left out: never."""


class FineTuneJob(ApiModel):
    """Fine-tunes a model, judges every checkpoint, and publishes only what passed its gates."""

    api_version: Literal["tunegate.dev/v1alpha1"] = "tunegate.dev/v1alpha1"
    kind: Literal["FineTuneJob"] = "FineTuneJob"
    metadata: ObjectMeta
    spec: FineTuneJobSpec
    status: FineTuneJobStatus = FineTuneJobStatus()
