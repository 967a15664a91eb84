"""The data of a FineTuneJob: training rows, preference pairs and held-out rows."""

from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field

from tunegate_api.meta import ApiModel, Decimal, Name, Sha256
from tunegate_api.v1alpha1.endpoint import Endpoint
from tunegate_api.v1alpha1.fields import Key, Share, Uri
from tunegate_api.v1alpha1.values import AllowedSchemes, Between, Form

ColumnName = Annotated[str, Field(min_length=1, max_length=128)]

DataUri = Annotated[
    Uri,
    AllowedSchemes(("pvc", "file", "hf", "s3")),
    Form(
        "^hf://datasets/[^/@]+/[^/@]+(@[^/]+)?/.",
        "must name a file of a data set, hf://datasets/ORG/NAME/PATH",
        start="hf://",
    ),
    Form("^s3://[^/]+/+.*[^/]$", "must name a bucket and a file in it, s3://BUCKET/KEY", start="s3://"),
]


class Columns(ApiModel):
    """Names of the fields to read from each row."""

    prompt: Annotated[ColumnName | None, Field(examples=["text"])] = None
    """Field that holds the prompt. Defaults to `prompt`."""
    completion: Annotated[ColumnName | None, Field(examples=["json"])] = None
    """Field that holds the completion. Defaults to `completion`."""
    messages: Annotated[ColumnName | None, Field(examples=["conversation"])] = None
    """Field that holds the chat, a list of {role, content}. Defaults to `messages`."""
    chosen: Annotated[ColumnName | None, Field(examples=["better"])] = None
    """Field of preference data that holds the preferred completion. Defaults to `chosen`."""
    rejected: Annotated[ColumnName | None, Field(examples=["worse"])] = None
    """Field of preference data that holds the rejected completion. Defaults to `rejected`."""
    id: Annotated[ColumnName | None, Field(examples=["number"])] = None
    """Field that identifies a row in reports. Defaults to `id`, or the line number."""


class DataSource(ApiModel):
    """A file in JSON Lines format, at an address or, up to about 200 KiB, in a ConfigMap."""

    uri: Annotated[
        DataUri | None,
        Field(examples=["pvc://datasets/invoices.jsonl"]),
    ] = None
    """Address of the file: pvc://CLAIM/PATH, file://PATH (only with `tunegate run`), s3://BUCKET/KEY, or
    hf://datasets/ORG/NAME/PATH. To pin a commit of a data set, write NAME@REVISION."""
    config_map: Annotated[Name | None, Field(examples=["invoices"])] = None
    """Name of a ConfigMap in the same namespace that holds the file."""
    key: Annotated[Key | None, Field(examples=["train.jsonl"])] = None
    """Key in the ConfigMap. Defaults to its only key."""
    sha256: Annotated[
        Sha256 | None, Field(examples=["4be10c2a9e6d1d6f0f3a8d2d1c9a7b5e3f1d0c9b8a7968574635241302f1e0dc"])
    ] = None
    """SHA-256 digest that the file must have, as `sha256sum` prints it. If the file has another digest, the
    job fails before training. If omitted, any content is accepted. The digest is recorded in the plan in any
    case."""
    columns: Columns = Columns()
    """Names of the fields to read. Defaults to `prompt` and `completion`, or `messages`."""
    secret_name: Annotated[Name | None, Field(examples=["bucket-credentials"])] = None
    """Name of the Secret with the credentials for `uri`. It is mounted only into the data pod, and needs the
    same keys as `model.secretName`."""


class HeldOut(ApiModel):
    """The split of labeled rows that are excluded from training. They form two parts of about the same size:
    dev rows score checkpoints; test rows are read only by the final gate."""

    fraction: Annotated[Decimal, Between(above=0, most=Fraction(1, 2)), Field(examples=["0.15"])] = "0.12"
    """Approximate share of rows to hold out, more than 0 and at most 0.5. 0.10 to 0.15 is good practice. A
    hash assigns each row to a side of the split, so adding rows does not move existing ones. Dev and test
    have at most 1,000 rows each; further rows are trained on."""
    group_by: Annotated[ColumnName | None, Field(examples=["customer"])] = None
    """Field of rows and preference pairs to group by. Rows with the same value are either all trained on or
    all held out. Defaults to the prompt."""


class Calibration(ApiModel):
    """Rows scored by people, which the judge scores too. Its scores are used only if it agrees with people
    often enough."""

    source: DataSource
    """Rows with the fields prompt, completion and `good`: true or false, as people scored the row. 100 rows,
    20 of them bad, are enough."""
    min_recall: Annotated[Share, Field(examples=["0.7"])]
    """Minimum share of the bad rows that the judge must find, 0 to 1. The lower bound of the 95 % confidence
    interval counts."""
    min_specificity: Annotated[Share, Field(examples=["0.8"])]
    """Minimum share of the good rows that the judge must accept, 0 to 1. The lower bound of the 95 %
    confidence interval counts."""


class Judge(ApiModel):
    """A language model that scores completions, and how well it must agree with people."""

    endpoint: Endpoint
    """The server of the judge model."""
    calibration: Calibration
    """Rows that measure how well the judge agrees with people."""


class Quality(ApiModel):
    """The review of a sample of completions before training."""

    sample: Annotated[Decimal, Between(above=0, most=1), Field(examples=["0.05"])] = "0.08"
    """Share of rows to score. 0.05 to 0.10 is good practice."""
    review: Literal["Manual", "Judge"] = "Manual"
    """Who scores the sample. Manual: people. Judge: a calibrated language model."""
    judge: Judge | None = None
    """The judge model. Required if `review` is Judge, and not allowed otherwise."""
    min_score: Annotated[Share, Field(examples=["0.95"])] = "0.9"
    """Minimum share of the sample that must be good, 0 to 1. If the share is lower, the job does not
    train."""


Goal = Literal["StyleOrFormat", "DomainVocabulary", "TaskSpecialization", "InstructionFollowing"]


class Data(ApiModel):
    """Training data, and the rows of it that are held out."""

    goal: Goal
    """Purpose of the tuning. It sets the minimum number of training rows: 200 for StyleOrFormat, 500 for
    DomainVocabulary, 1,000 for TaskSpecialization, and 2,000 for InstructionFollowing."""
    size_policy: Literal["Refuse", "Warn"] = "Refuse"
    """What to do if there are fewer training rows than `goal` requires. Refuse: fail the job. Warn: train,
    and add a warning to the status."""
    train: DataSource
    """Labeled rows: a prompt and a completion, or chat messages. A chat of more than one question and its
    answer needs a model with a chat template. Every assistant turn of a chat is trained on; the last one is
    scored. Held-out rows are split from these rows. A turn that answers a held-out question is not trained
    on."""
    preference: DataSource | None = None
    """Preference pairs for DPO stages: prompt, chosen completion and rejected completion. Held-out pairs, and
    pairs with a held-out prompt, are not trained on."""
    production: DataSource | None = None
    """Sample of production inputs that the training inputs are compared with."""
    max_too_long: Annotated[Share, Field(examples=["0.05"])] = "0.01"
    """Maximum share of rows, and of pairs, that may be dropped because they are longer than
    `training.maxLength`, 0 to 1. If more are too long, the job fails before training."""
    held_out: HeldOut = HeldOut()
    """How to choose the held-out rows."""
    quality: Quality | None = None
    """Review of a sample of the data before training."""
