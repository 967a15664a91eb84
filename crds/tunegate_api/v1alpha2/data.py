"""The data of a FineTuneJob: training rows, preference pairs and held-out rows."""

from typing import Annotated, Literal

from pydantic import Field

from tunegate_api.meta import ApiModel, Decimal, Name, ObjectName, Sha256
from tunegate_api.v1alpha2.data_checks import CHECK_DEFAULTS, DataCheck
from tunegate_api.v1alpha2.fields import Key, ShortName, Uri
from tunegate_api.v1alpha2.shares import Percent, PositivePercent
from tunegate_api.v1alpha2.values import AllowedSchemes, Between, Form

MAX_WEIGHT = 10
"""How often a row may be trained on per epoch."""

ColumnName = Annotated[str, Field(min_length=1, max_length=128)]

DataUri = Annotated[
    Uri,
    AllowedSchemes(("pvc", "file", "hf", "s3", "https", "http")),
    Form(
        "^hf://datasets/[^/@]+/[^/@]+(@[^/]+)?(/|$)",
        "must name a data set, hf://datasets/ORG/NAME[/PATH]",
        start="hf://",
    ),
    Form("^s3://[^/]+/", "must name a path in a bucket, s3://BUCKET/PATH", start="s3://"),
    Form(
        "^https?://[^/?#@]+/[^?#]*[^/?#]([?]|$)",
        "must name a file, https://HOST/PATH, without credentials: name their Secret as secretName",
        start="http",
    ),
]


class Columns(ApiModel):
    """Names of the fields to read from each row."""

    prompt: Annotated[ColumnName | None, Field(examples=["text"])] = None
    """Field that holds the prompt. Defaults to `prompt`."""
    messages: Annotated[ColumnName | None, Field(examples=["conversation"])] = None
    """Field that holds the chat, a list of {role, content}. Defaults to `messages`. Not for Preference."""
    completion: Annotated[ColumnName | None, Field(examples=["json"])] = None
    """Field that holds the completion. Defaults to `completion`. Only for Train and Mix."""
    id: Annotated[ColumnName | None, Field(examples=["number"])] = None
    """Field that identifies a row in reports. Defaults to `id`, or the line number if a row has no such
    field. Not for Production."""
    chosen: Annotated[ColumnName | None, Field(examples=["better"])] = None
    """Field that holds the preferred completion. Defaults to `chosen`. Only for Preference."""
    rejected: Annotated[ColumnName | None, Field(examples=["worse"])] = None
    """Field that holds the rejected completion. Defaults to `rejected`. Only for Preference."""


class Source(ApiModel):
    """A file or folder at an address or in a ConfigMap. Either `uri` or `configMap` must be set."""

    uri: Annotated[
        DataUri | None,
        Field(examples=["pvc://datasets/invoices.jsonl"]),
    ] = None
    """Address of a file or folder: pvc://CLAIM/PATH, file://PATH (only with `tunegate run`),
    hf://datasets/ORG/NAME[@REVISION][/PATH], s3://BUCKET/KEY or s3://BUCKET/FOLDER/; or of a file,
    https://HOST/PATH."""
    config_map: Annotated[ObjectName | None, Field(examples=["invoices"])] = None
    """Name of a ConfigMap in the same namespace that holds the file."""
    key: Annotated[Key | None, Field(examples=["train.jsonl"])] = None
    """Key in the ConfigMap. Defaults to its only key."""
    sha256: Annotated[
        Sha256 | None, Field(examples=["4be10c2a9e6d1d6f0f3a8d2d1c9a7b5e3f1d0c9b8a7968574635241302f1e0dc"])
    ] = None
    """SHA-256 digest that the content must have, for a file as `sha256sum` prints it. If omitted, any
    content is accepted."""
    secret_name: Annotated[ObjectName | None, Field(examples=["bucket-credentials"])] = None
    """Name of the Secret with the credentials for `uri`. Keys: those of `model.secretName`; for https://,
    token, or username and password."""


Use = Literal["Train", "Mix", "Preference", "Production"]


class DataSource(Source):
    """A file or folder with rows, and what they are for, at an address or in a ConfigMap: JSON Lines, a JSON
    array, CSV, Parquet, Arrow, or a folder with such files. Either `uri` or `configMap` must be set. A
    ConfigMap of more than about 200 KiB needs server-side apply, and one of more than 1 MiB is not
    possible."""

    name: Annotated[Name, Field(examples=["invoices"])]
    """Name of the source in messages, reports and evidence."""
    use: Use = "Train"
    """What the rows are for. Train: labeled rows, each with a prompt and a completion, or with chat messages;
    held-out rows are taken from them. A chat with more than one question and answer needs a model with a chat
    template. Every assistant turn of a chat is trained on, unless it answers the question of a held-out row;
    in a held-out chat, the last assistant turn is scored. Mix: further rows to train on, such as general
    chats or synthetic rows. They are never held out, and not trained on if they repeat held-out rows; `goal`,
    templates, labels, languages and production inputs are not checked for them. Preference: pairs for DPO
    stages, each with a prompt, a chosen and a rejected completion. Held-out pairs, and pairs with a held-out
    prompt, are not trained on. Production: a sample of at least 50 production inputs that the training inputs
    are compared with. A row is a string, or has a prompt or chat messages, as the model receives them. They
    are never trained on."""
    columns: Columns = Columns()
    """Names of the fields to read. Defaults to `prompt` and `completion`, or `messages`; for Preference,
    `prompt`, `chosen` and `rejected`; for Production, `prompt` or `messages`. ShareGPT, Alpaca and OpenAI's
    DPO format need no names."""
    weight: Annotated[Decimal | None, Between(above=0, most=MAX_WEIGHT), Field(examples=["0.5"])] = None
    """How often each row of a Mix is trained on per epoch, more than 0 and at most 10. Defaults to 1. 2:
    twice. 0.5: a half of the rows, in each epoch the same."""

    @property
    def field(self) -> str:
        """The source in messages about its address and content: ``data.sources[invoices]``."""
        return f"data.sources[{self.name}]"


class HeldOut(ApiModel):
    """How labeled rows are held out, which means excluded from training. The held-out rows form two splits of
    about the same size: dev rows score checkpoints; test rows are read only by the final gate."""

    fraction: Annotated[Percent, Between(above=0, most=50, percent=True), Field(examples=["15%"])] = "12%"
    """Approximate share of rows to hold out, more than 0 % and at most 50 %. 10 % to 15 % is good practice. A
    hash assigns each row to train, dev or test, so adding rows does not move existing rows to another split.
    Dev and test have at most 1,000 rows each; further rows are trained on."""
    group_by: Annotated[ColumnName | None, Field(examples=["customer"])] = None
    """Field of rows and preference pairs to group by. Rows with the same value are all trained on or all held
    out. Defaults to the prompt."""


class GraderReference(ApiModel):
    """Reference to a grader of an EvalGate."""

    gate: Annotated[Name, Field(examples=["invoice-golden"])]
    """Name of an EvalGate in `spec.gates` of the job."""
    name: Annotated[ShortName, Field(examples=["tone"])]
    """Name of a grader of this gate, of the type Model with `agreement`."""


class Quality(ApiModel):
    """The review of a sample of completions before training."""

    sample: Annotated[PositivePercent, Field(examples=["5%"])] = "8%"
    """Share of training rows to score, but at least 20 rows and at most 500. 5 % to 10 % is good
    practice."""
    grader: GraderReference | None = None
    """The grader that scores the sample. Only if it agrees with people often enough, its scores count. If
    omitted, people score the sample: the job waits until every row is scored."""
    min_score: Annotated[Percent, Field(examples=["95%"])] = "90%"
    """Minimum share of the sample that must be good. If the share is lower, the job does not
    train."""


Goal = Literal["StyleOrFormat", "DomainVocabulary", "TaskSpecialization", "InstructionFollowing"]


class Data(ApiModel):
    """Training data, and how to hold out rows."""

    goal: Goal
    """Purpose of the tuning, which determines the minimum number of training rows: 200 for
    StyleOrFormat, 500 for DomainVocabulary, 1,000 for TaskSpecialization, and 2,000 for
    InstructionFollowing."""
    size_policy: Literal["Refuse", "Warn"] = "Refuse"
    """What to do if there are fewer training rows than `goal` requires, or more than 10,000 without
    `quality`. Refuse: fail the job. Warn: train, and add a warning to the status."""
    sources: Annotated[list[DataSource], Field(min_length=1, max_length=12)]
    """The rows, by name: exactly one Train, at most 8 Mix, one Preference and one Production."""
    max_too_long: Annotated[Percent, Field(examples=["5%"])] = "1%"
    """Maximum share of rows, and of preference pairs, that may be dropped because they are longer than
    `training.maxLength`. If the share is larger, the job fails before training."""
    checks: Annotated[list[DataCheck], Field(max_length=len(CHECK_DEFAULTS))] = []
    """Settings of the data checks that differ from their defaults. The checks run before a GPU is requested,
    on all rows of all sources."""
    held_out: HeldOut = HeldOut()
    """How to choose the held-out rows."""
    quality: Quality | None = None
    """Review of a sample of the data before training. Required above 10,000 training rows, see
    `sizePolicy`."""

    @property
    def train(self) -> DataSource:
        """The labeled rows, from which held-out rows are taken."""
        return self._with_use("Train")[0]

    @property
    def mix(self) -> list[DataSource]:
        """Further rows to train on."""
        return self._with_use("Mix")

    @property
    def preference(self) -> DataSource | None:
        """The preference pairs, if the job has any."""
        return next(iter(self._with_use("Preference")), None)

    @property
    def production(self) -> DataSource | None:
        """The sample of production inputs, if the job has one."""
        return next(iter(self._with_use("Production")), None)

    def _with_use(self, use: Use) -> list[DataSource]:
        return [source for source in self.sources if source.use == use]
