"""What a FineTuneJob learns from, and what it holds away from learning."""

from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field

from tunegate_api.meta import ApiModel, Decimal, Name, Sha256
from tunegate_api.v1alpha1.endpoint import Endpoint
from tunegate_api.v1alpha1.fields import Key, Share, Uri
from tunegate_api.v1alpha1.values import Between, Form, Scheme

ColumnName = Annotated[str, Field(min_length=1, max_length=128)]

DataUri = Annotated[
    Uri,
    Scheme(("pvc", "file", "hf", "s3")),
    Form(
        "^hf://datasets/[^/@]+/[^/@]+(@[^/]+)?/.",
        "must name a file of a data set, hf://datasets/ORG/NAME/PATH",
        start="hf://",
    ),
    Form("^s3://[^/]+/+.*[^/]$", "must name a bucket and a file in it, s3://BUCKET/KEY", start="s3://"),
]


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
        DataUri | None,
        Field(examples=["pvc://datasets/invoices.jsonl"]),
    ] = None
    """Where the file is: pvc://CLAIM/PATH, file://PATH (laptop only), s3://BUCKET/KEY, or
    hf://datasets/ORG/NAME/PATH, with NAME@REVISION where a commit is pinned."""
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
    """The Secret with the credentials for `uri`, mounted into the data pod alone. Its keys are those of
    `model.secretName`."""


class HeldOut(ApiModel):
    """The labelled rows held out of training, in two parts of about the same size: dev scores checkpoints,
    test is opened by the final gate alone."""

    fraction: Annotated[Decimal, Between(above=0, most=Fraction(1, 2)), Field(examples=["0.15"])] = "0.12"
    """About which share of rows to hold out, more than 0 and at most 0.5; 0.10 to 0.15 by good practice. A
    hash decides the side of each row, so that added rows move none. At most 1,000 rows each for dev and test:
    what is more trains."""
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
    """Labelled rows: prompt and completion, or chat messages, which need a model with a chat template where
    they are more than a question and its answer. Of a chat every turn of the assistant is learned, and the
    last one scored. Held-out rows are split from it, and no turn is learned whose question is held out."""
    preference: DataSource | None = None
    """Rows of prompt, chosen and rejected completion, for DPO stages. A pair whose prompt is held out, or
    that is held out itself, is never trained on."""
    production: DataSource | None = None
    """A sample of production inputs, to compare the training inputs with."""
    max_too_long: Annotated[Share, Field(examples=["0.05"])] = "0.01"
    """The share of rows, and of pairs, 0 to 1, that may be left out for being longer than
    `training.maxLength`. Where more are, the job fails before it trains."""
    held_out: HeldOut = HeldOut()
    """How to split off the rows that evaluate."""
    quality: Quality | None = None
    """The review of a sample before training."""
