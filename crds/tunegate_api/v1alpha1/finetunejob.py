"""FineTuneJob: a model, data, training stages, task metrics, the gates to pass, where the result goes.

The docstring of each field is what ``kubectl explain`` prints. A default given here is what a job
resolves to when the field is left out; schemas carry no defaults, so Git never differs.
"""

from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import Field

from tunegate_api.meta import (
    DNS_NAME_PATTERN,
    DNS_NAME_SHAPE,
    MAX_DNS_NAME,
    NAME_PATTERN,
    ApiModel,
    Decimal,
    Name,
    ObjectMeta,
    Sha256,
)
from tunegate_api.v1alpha1.endpoint import Endpoint
from tunegate_api.v1alpha1.finetunejob_status import FineTuneJobStatus
from tunegate_api.v1alpha1.pods import PodTemplate, Resources
from tunegate_api.v1alpha1.tracking import Tracking
from tunegate_api.v1alpha1.values import Between, Form, Scheme

URI_PATTERN = r"^[a-z][a-z0-9+.-]*://\S+$"
KEY_PATTERN = r"^[-._a-zA-Z0-9]+$"

Uri = Annotated[
    str,
    Field(pattern=URI_PATTERN, max_length=1024),
    Form("^pvc://[^/]+/+[^/]", "must name a claim and a path in it, pvc://CLAIM/PATH", start="pvc://"),
    Form(f"^pvc://{DNS_NAME_PATTERN[1:-1]}(/|$)", f"the claim must be {DNS_NAME_SHAPE}", start="pvc://"),
    Form(
        f"^pvc://[^/]{{1,{MAX_DNS_NAME}}}(/|$)",
        f"the claim has at most {MAX_DNS_NAME} characters",
        start="pvc://",
    ),
    Form(r"/\.\.(/|$)", 'the path must stay inside the claim, without ".."', never=True, start="pvc://"),
]
ModelUri = Annotated[Uri, Scheme(("hf", "s3", "oci", "pvc", "file", "package"))]
Share = Annotated[Decimal, Between(least=0, most=1)]
MAX_SECONDS = 10 * 365 * 86400
"""Ten years: calendars end, and so should waiting."""
ShortName = Annotated[str, Field(pattern=NAME_PATTERN, min_length=1, max_length=20)]
Key = Annotated[str, Field(pattern=KEY_PATTERN, min_length=1, max_length=253)]
ColumnName = Annotated[str, Field(min_length=1, max_length=128)]


class ModelSource(ApiModel):
    """The model that training starts from: either `uri`, or `startFrom` an earlier job."""

    uri: Annotated[ModelUri | None, Field(examples=["pvc://models/Qwen2.5-7B-Instruct"])] = None
    """Where the weights are: hf://ORG/NAME, s3://, oci://, pvc://CLAIM/PATH, file://PATH (laptop only), or
    package://NAME for a model that an installed Python package carries."""
    start_from: Annotated[Name | None, Field(examples=["invoice-extractor"])] = None
    """A FineTuneJob of this namespace whose published model to start from."""
    revision: Annotated[
        str | None, Field(max_length=128, examples=["a09a35458c702b33eeacc393d103063234e8bc28"])
    ] = None
    """The commit or version to pin. Needed where the source can change under its name (hf://)."""
    secret_name: Annotated[Name | None, Field(examples=["hub-token"])] = None
    """The Secret with the credentials for `uri`, mounted into the data pod alone."""
    trust_remote_code: bool = False
    """Whether the repository's own Python code may run. Refused unless the cluster's admin allows it."""


class Columns(ApiModel):
    """Which fields of a row to read, when they have names of their own."""

    prompt: Annotated[ColumnName | None, Field(examples=["text"])] = None
    """The field with the prompt. Left out: `prompt`."""
    completion: Annotated[ColumnName | None, Field(examples=["json"])] = None
    """The field with the completion. Left out: `completion`."""
    messages: Annotated[ColumnName | None, Field(examples=["conversation"])] = None
    """The field with the chat: a list of {role, content}. Left out: `messages`."""
    chosen: Annotated[ColumnName | None, Field(examples=["better"])] = None
    """Of preference data: the field with the better completion. Left out: `chosen`."""
    rejected: Annotated[ColumnName | None, Field(examples=["worse"])] = None
    """Of preference data: the field with the worse completion. Left out: `rejected`."""
    id: Annotated[ColumnName | None, Field(examples=["number"])] = None
    """The field that identifies a row in reports. Left out: `id`, or the number of the line."""


class DataSource(ApiModel):
    """JSON Lines, from a volume or, up to about 200 KiB, from a ConfigMap."""

    uri: Annotated[
        Annotated[Uri, Scheme(("pvc", "file", "hf", "s3"))] | None,
        Field(examples=["pvc://datasets/invoices.jsonl"]),
    ] = None
    """Where the file is: pvc://CLAIM/PATH, file://PATH (laptop only), hf:// or s3://."""
    config_map: Annotated[Name | None, Field(examples=["invoices"])] = None
    """A ConfigMap of this namespace that holds the file."""
    key: Annotated[Key | None, Field(examples=["train.jsonl"])] = None
    """The key in the ConfigMap. Left out: its only key."""
    sha256: Annotated[
        Sha256 | None, Field(examples=["4be10c2a9e6d1d6f0f3a8d2d1c9a7b5e3f1d0c9b8a7968574635241302f1e0dc"])
    ] = None
    """The digest that the file must have, as `sha256sum` prints it. Another one fails the job before anything
    trains. Left out: any content is taken, and its digest is recorded in the plan."""
    columns: Columns = Columns()
    """Which fields to read. Left out: `prompt` and `completion`, or `messages`."""
    secret_name: Annotated[Name | None, Field(examples=["bucket-credentials"])] = None
    """The Secret with the credentials for `uri`, mounted into the data pod alone."""


class HeldOut(ApiModel):
    """The labelled rows kept away from training, in two equal parts: dev scores checkpoints, test is opened
    once, by the final gate."""

    fraction: Annotated[Decimal, Between(above=0, most=Fraction(1, 2)), Field(examples=["0.15"])] = "0.12"
    """The share of rows to keep away, more than 0 and at most 0.5; 0.10 to 0.15 by good practice."""
    group_by: Annotated[ColumnName | None, Field(examples=["customer"])] = None
    """A field of rows, and of pairs, whose equal values stay together, in training or outside it. Left out:
    the prompt."""


class Calibration(ApiModel):
    """Rows that people scored, which the judge scores too: it counts only where it agrees with them."""

    source: DataSource
    """The rows: prompt, completion, and `good`, true or false as people scored it. A hundred rows, twenty of
    them bad, are enough."""
    min_recall: Annotated[Share, Field(examples=["0.7"])]
    """The lowest share of the bad rows that the judge must find, 0 to 1, by the lower 95 % bound."""
    min_specificity: Annotated[Share, Field(examples=["0.8"])]
    """The lowest share of the good rows that the judge must let pass, 0 to 1, by the lower 95 % bound."""


class Judge(ApiModel):
    """A language model that scores completions, and the proof that it scores as people do."""

    endpoint: Endpoint
    """The server of the judging model."""
    calibration: Calibration
    """The rows that the judge must score as people did."""


class Quality(ApiModel):
    """A sample of completions that must be scored before training."""

    sample: Annotated[Decimal, Between(above=0, most=1), Field(examples=["0.05"])] = "0.08"
    """The share of rows to score, 0.05 to 0.10."""
    review: Literal["Manual", "Judge"] = "Manual"
    """Who scores: people, or a calibrated LLM judge."""
    judge: Judge | None = None
    """The judge. For review: Judge, which needs it, and for no other."""
    min_score: Annotated[Share, Field(examples=["0.95"])] = "0.9"
    """The share of the sample that must be good, 0 to 1. Below it nothing trains."""


Goal = Literal["StyleOrFormat", "DomainVocabulary", "TaskSpecialization", "InstructionFollowing"]


class Data(ApiModel):
    """What to learn from, and what to hold away from learning."""

    goal: Goal
    """What the tuning is for. It sets how many training rows are needed: StyleOrFormat 200, DomainVocabulary
    500, TaskSpecialization 1,000, InstructionFollowing 2,000."""
    size_policy: Literal["Refuse", "Warn"] = "Refuse"
    """What happens when there are fewer training rows than `goal` needs. Refuse: the job fails. Warn: it
    trains, and its status says so."""
    train: DataSource
    """Labelled rows: prompt and completion, or chat messages. Of a chat every turn of the assistant is
    learned (the last alone where the model has no chat template), and the last one scored. Held-out rows are
    split from it, and no turn is learned whose question is held out."""
    preference: DataSource | None = None
    """Rows of prompt, chosen and rejected completion, for DPO stages. A pair whose prompt is held out, or
    that is held out itself, is never trained on."""
    production: DataSource | None = None
    """A sample of production inputs, to compare the training inputs with."""
    held_out: HeldOut = HeldOut()
    """How to split off the rows that evaluate."""
    quality: Quality | None = None
    """The review of a sample before training."""


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


class Adapter(ApiModel):
    """Which small set of weights to train beside the frozen base. A stage without one trains all weights."""

    type: Literal["LoRA"] | None = None
    """LoRA: a new low-rank adapter. Either this or `from` is given."""
    from_: Annotated[Literal["Previous"] | None, Field(alias="from")] = None
    """Previous: go on training the adapter of the stage before, in its shape. Instead of `type`."""
    r: Annotated[int | None, Field(ge=1, le=1024, examples=[16])] = None
    """Rank of the update. Left out: 16."""
    alpha: Annotated[int | None, Field(ge=1, le=4096, examples=[32])] = None
    """Scale of the update: it is multiplied by alpha / r. Left out: twice `r`."""
    dropout: Annotated[Decimal | None, Between(least=0, below=1), Field(examples=["0.05"])] = None
    """The share of the adapter's inputs that is dropped in training, at least 0 and below 1. DPO drops none.
    Left out: 0."""
    target_modules: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=128)]] | None,
        Field(min_length=1, max_length=64, examples=[["q_proj", "v_proj"]]),
    ] = None
    """Names of the layers that get an adapter, or all-linear alone. Left out: all-linear."""


class Training(ApiModel):
    """How to train. What is left out is resolved by method and stands in the plan."""

    epochs: Annotated[int | None, Field(ge=1, le=1000, examples=[3])] = None
    """Passes over the training rows. Left out: 3, or 1 for DPO, unless `maxSteps` is given."""
    max_steps: Annotated[int | None, Field(ge=1, le=10_000_000, examples=[500])] = None
    """Optimizer steps, instead of `epochs`."""
    learning_rate: Annotated[Decimal | None, Between(above=0, most=1), Field(examples=["2e-4"])] = None
    """Peak learning rate. Left out: 2e-4 for an adapter, 1e-5 for all weights, 5e-6 for DPO."""
    scheduler: Literal["linear", "cosine", "constant"] | None = None
    """How the learning rate moves after warm-up. Left out: linear, down to 0."""
    warmup_fraction: Annotated[Share | None, Field(examples=["0.05"])] = None
    """The share of steps over which the learning rate rises from 0, 0 to 1. Left out: 0.03."""
    weight_decay: Annotated[Share | None, Field(examples=["0.01"])] = None
    """AdamW's weight decay. Left out: 0."""
    max_grad_norm: Annotated[Decimal | None, Between(above=0), Field(examples=["1"])] = None
    """Longer gradients are scaled down to this norm. Left out: 1."""
    batch_size: Annotated[int | None, Field(ge=1, le=65536, examples=[32])] = None
    """Examples per optimizer step, of DPO pairs, whatever they are packed or split into. Left out: 16."""
    max_length: Annotated[int | None, Field(ge=8, le=1_048_576, examples=[2048])] = None
    """Longest example in tokens. Longer ones are counted, and refused beyond 1 % of the rows. Left out: 2048,
    or what the model can take."""
    seed: Annotated[int | None, Field(ge=0, le=2**31 - 1, examples=[7])] = None
    """Decides the split, the order of rows and the adapter's first weights. Left out: 42."""
    beta: Annotated[Decimal | None, Between(above=0), Field(examples=["0.05"])] = None
    """DPO alone: how closely to stay to the reference model; higher is closer. Left out: 0.1."""
    loss: Literal["sigmoid", "ipo"] | None = None
    """DPO alone: sigmoid is the loss of the paper, ipo one that stops pushing pairs apart. Left out:
    sigmoid."""


class GateReference(ApiModel):
    """A gate that must be passed."""

    name: Annotated[Name, Field(examples=["invoice-golden"])]
    """An EvalGate of this namespace."""


class Stage(ApiModel):
    """One training run. Stages run in order; each starts from the best passing checkpoint of the one
    before."""

    name: Annotated[ShortName, Field(examples=["sft"])]
    """Names the stage in status, files and child Jobs, at most 20 characters."""
    method: Literal["SFT", "DPO"]
    """SFT: learn from completions. DPO: learn from preferences."""
    adapter: Adapter | None = None
    """The adapter to train. Left out: all weights are trained."""
    quantization: Literal["NF4"] | None = None
    """NF4: hold the frozen base in 4 bits (QLoRA). Left out: 16 or 32 bits, or with `from: Previous` as the
    stage before."""
    training: Training = Training()
    """How to train."""
    gates: Annotated[
        list[GateReference] | None, Field(min_length=1, max_length=8, examples=[[{"name": "invoice-format"}]])
    ] = None
    """Gates for this stage's checkpoints. Left out: the job's."""


class EvaluateEvery(ApiModel):
    """How often a checkpoint is saved and evaluated: a share of the stage, or a number of steps."""

    fraction: Annotated[Decimal | None, Between(least=Fraction(1, 100), most=1), Field(examples=["0.25"])] = (
        None
    )
    """The share of the stage's steps between checkpoints, 0.01 to 1. Left out: 0.2, unless `steps` is
    given."""
    steps: Annotated[int | None, Field(ge=1, le=10_000_000, examples=[100])] = None
    """Optimizer steps between checkpoints."""


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
    publish: Annotated[list[PublishTarget], Field(max_length=4)] = []
    """Where the model goes when it passed. Left out: it stays on the storage volume."""
    merge_adapter: bool = False
    """True: an adapter is merged into its base, and the whole model is judged and published. False: the
    adapter is, unless its stage started from a merged model, which nobody else has."""
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
