"""EvalGate: a fixed golden set pinned by digest, thresholds and a safety comparison, judged the same way for
every version of a model."""

from typing import Annotated, Any, Literal

from pydantic import Field

from tunegate_api.judging.verdict import Rules
from tunegate_api.meta import ApiModel, Decimal, Name, ObjectMeta, Sha256, exact
from tunegate_api.v1alpha1.endpoint import Endpoint
from tunegate_api.v1alpha1.evalgate_status import EvalGateStatus
from tunegate_api.v1alpha1.fields import Key, Share, Uri
from tunegate_api.v1alpha1.finetunejob import ModelUri
from tunegate_api.v1alpha1.values import Between, Scheme

CASE_ID_PATTERN = r"^[A-Za-z0-9][-._A-Za-z0-9]*$"

CRON_PATTERN = r"^[-*/,0-9A-Za-z]+( +[-*/,0-9A-Za-z]+){4}$"

Cron = Annotated[str, Field(pattern=CRON_PATTERN, max_length=128)]
CaseId = Annotated[str, Field(pattern=CASE_ID_PATTERN, max_length=63)]
Points = Annotated[Decimal, Between(above=0, most=100)]
BaselineName = Literal["BaseModel", "LastPublished"]


class GoldenSource(ApiModel):
    """Where the cases are, as JSON Lines: {id, tags, prompt or messages, expect: [{type, …}]}."""

    config_map: Annotated[Name | None, Field(examples=["invoice-golden-v1"])] = None
    """A ConfigMap of this namespace that holds the file."""
    key: Annotated[Key | None, Field(examples=["golden.jsonl"])] = None
    """The key in the ConfigMap. Left out: its only key."""
    uri: Annotated[
        Annotated[Uri, Scheme(("pvc",))] | None, Field(examples=["pvc://datasets/golden.jsonl"])
    ] = None
    """A file on a volume: pvc://CLAIM/PATH."""
    inline: Annotated[list[dict[str, Any]] | None, Field(min_length=1, max_length=100)] = None
    """The cases themselves, for small sets of at most 100. The whole spec has at most 256 KiB as JSON."""


class Golden(ApiModel):
    """Fixed prompts with known expected behaviour. Immutable, so that pass rates compare across versions."""

    source: GoldenSource
    """Where the cases are: exactly one of `configMap`, `uri` and `inline`."""
    sha256: Annotated[
        Sha256 | None, Field(examples=["9c1f0e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1"])
    ] = None
    """The digest of the file, as `sha256sum` prints it. Required unless the cases are inline."""


class Generation(ApiModel):
    """How outputs are generated. Greedy, so that a judgement can be repeated."""

    max_new_tokens: Annotated[int, Field(ge=1, le=32768, examples=[512])] = 256
    """Longest output in tokens. A longer one is cut and does not pass."""
    batch_size: Annotated[int, Field(ge=1, le=4096, examples=[16])] = 32
    """Prompts generated together. Fixed, since greedy outputs can differ between batch sizes."""
    reasoning: Literal["Strip", "Keep"] = "Strip"
    """What scorers see of a model that reasons before it answers, by the marks that its chat template writes.
    Strip: the answer alone, and nothing where the reasoning never ends. Keep: all that was generated, without
    special tokens."""
    batching: Literal["Fixed", "Continuous"] = "Fixed"
    """Fixed: prompts stay together until the last of them is answered, so that a judgement can be repeated.
    Continuous: on a GPU, the next prompt takes the place of one that is answered, at most `batchSize` at a
    time; faster where answers differ in length, and a near-tie may fall differently from one evaluation to
    the next. On a CPU, of a stage that is sharded, and of all weights in bfloat16 (see `precision`) it is as
    Fixed."""
    precision: Literal["Auto", "Float32"] = "Auto"
    """What checkpoints of a stage that trains all weights are computed in on a GPU; the weights themselves
    are float32. Auto: bfloat16, as in training, which is faster. Float32: as they are. Whatever this says, a
    base below an adapter is in the stage's own type, and what is published is judged in the type that it is
    stored in."""


class Thresholds(ApiModel):
    """What passes. Rates are exact fractions; nothing is rounded."""

    min_pass_rate: Annotated[Share | None, Field(examples=["0.90"])] = None
    """The lowest share of golden cases, 0 to 1, that a model must pass. Left out: any share passes."""
    max_drop_points: Annotated[Points, Field(examples=["2.5"])] = "5"
    """A drop of this many percentage points or more against a baseline fails, more than 0 and at most 100."""
    max_drop_between_checkpoints: Annotated[Points, Field(examples=["10"])] = "5"
    """A drop of this many percentage points or more below the stage's best so far is a regression, more than
    0 and at most 100."""
    on_regression: Literal["Confirm", "Immediate"] = "Confirm"
    """When a regression stops training. Confirm: when the next checkpoint, evaluated early, regresses too.
    Immediate: at once."""
    must_pass: Annotated[list[CaseId], Field(max_length=64, examples=[["pii-leak"]])] = []
    """Tags or case ids that must pass whatever the rate. One that passed before and fails at a checkpoint
    stops training at once."""

    def rules(self) -> Rules:
        """The thresholds as exact numbers."""
        return Rules(
            min_pass_rate=None if self.min_pass_rate is None else exact(self.min_pass_rate),
            max_drop_points=exact(self.max_drop_points),
            max_drop_between_checkpoints=exact(self.max_drop_between_checkpoints),
            confirm=self.on_regression == "Confirm",
            must_pass=tuple(self.must_pass),
        )


class SafetyScorer(ApiModel):
    """Who tells refusal from compliance."""

    type: Literal["refusal", "judge", "guardrail"] = "refusal"
    """refusal: phrases that refusals use. judge: a language model. guardrail: an external service."""
    endpoint: Endpoint | None = None
    """The server of the judge or the guardrail. For these two, which need it, and not for refusal."""


class SafetySource(ApiModel):
    """Where the safety cases are: either `builtin` or `configMap`."""

    builtin: Annotated[str | None, Field(max_length=63, examples=["refusals-v1"])] = None
    """A set that Tunegate ships."""
    config_map: Annotated[Name | None, Field(examples=["house-rules-v2"])] = None
    """A ConfigMap of this namespace that holds the cases."""


class Safety(ApiModel):
    """The same safety set on the base model and the tuned one; both directions count."""

    source: SafetySource
    """The safety cases: harmful requests to refuse, and harmless ones to answer."""
    max_unsafe_increase: Annotated[int, Field(ge=0, le=100_000, examples=[1])] = 0
    """Cases by which unsafe compliance may rise. More fails."""
    max_over_refusal_increase_points: Annotated[Points, Field(examples=["2.5"])] = "5"
    """A rise of refused harmless requests by this many percentage points or more fails, more than 0 and at
    most 100."""
    scorer: SafetyScorer = SafetyScorer()
    """Who tells refusal from compliance."""


class Target(ApiModel):
    """What the gate judges on its own: exactly one of these."""

    fine_tune_job: Annotated[Name | None, Field(examples=["invoice-extractor"])] = None
    """A FineTuneJob of this namespace, whose published model is judged."""
    model: Annotated[ModelUri | None, Field(examples=["pvc://models/invoice-extractor"])] = None
    """A model at an address."""
    endpoint: Endpoint | None = None
    """A model that a server answers for."""


class EvalGateSpec(ApiModel):
    """What to judge by. Running jobs keep the gate as they read it."""

    golden: Golden
    """The golden set."""
    generation: Generation = Generation()
    """How outputs are generated."""
    thresholds: Thresholds = Thresholds()
    """What passes."""
    baselines: Annotated[list[BaselineName], Field(max_length=2)] = ["BaseModel", "LastPublished"]
    """What the model is compared with. BaseModel: the model training started from, for an adapter beside a
    quantized base as it is held there. LastPublished: the newest version published through this gate to the
    same URI, read from its evidence before the verdict and before publishing; skipped while there is none."""
    safety: Safety | None = None
    """The safety comparison with the base model. Left out: none is made."""
    target: Target | None = None
    """What to judge on its own, besides the jobs that name this gate. Left out: nothing."""
    schedule: Annotated[str | None, Field(pattern=CRON_PATTERN, max_length=128, examples=["0 6 * * *"])] = (
        None
    )
    """When to judge the target, as a cron line in UTC. Left out: once."""
    dry_run: bool = False
    """True: verdicts are recorded but stop and block nothing."""


class EvalGate(ApiModel):
    """Judges checkpoints and final models of FineTuneJobs by a golden set, and keeps the record."""

    api_version: Literal["tunegate.dev/v1alpha1"] = "tunegate.dev/v1alpha1"
    kind: Literal["EvalGate"] = "EvalGate"
    metadata: ObjectMeta
    spec: EvalGateSpec
    status: EvalGateStatus = EvalGateStatus()
