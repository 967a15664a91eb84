"""EvalGate: a fixed golden set pinned by digest, thresholds and a safety comparison, judged the same way for
every version of a model."""

from typing import Annotated, Any, Literal

from pydantic import Field

from tunegate_api.meta import ApiModel, Decimal, Name, ObjectMeta, Sha256, exact
from tunegate_api.v1alpha1.evalgate_status import EvalGateStatus
from tunegate_api.v1alpha1.finetunejob import Uri
from tunegate_api.verdict import Rules

CaseId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][-._A-Za-z0-9]*$", max_length=63)]
BaselineName = Literal["BaseModel", "LastPublished"]


class GoldenSource(ApiModel):
    """Where the cases are, as JSON Lines: {id, tags, prompt or messages, expect: [{type, …}]}."""

    config_map: Name | None = None
    """A ConfigMap of this namespace."""
    key: Annotated[str, Field(max_length=253)] | None = None
    """The key in the ConfigMap. Needed only when it has more than one."""
    uri: Uri | None = None
    """A file on a volume: pvc://CLAIM/PATH."""
    inline: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=100)] | None = None
    """The cases themselves, for small sets."""


class Golden(ApiModel):
    """Fixed prompts with known expected behaviour. Immutable, so that pass rates compare across versions."""

    source: GoldenSource
    sha256: Sha256 | None = None
    """The digest of the file. Required unless the cases are inline."""


class Generation(ApiModel):
    """How outputs are generated. Greedy, so that a judgement can be repeated."""

    max_new_tokens: Annotated[int, Field(ge=1, le=32768)] = 256
    """Longest output in tokens. A longer one is cut and does not pass."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 32
    """Prompts generated together. Fixed, since greedy outputs can differ between batch sizes."""


class Thresholds(ApiModel):
    """What passes. Rates are exact fractions; nothing is rounded."""

    min_pass_rate: Decimal | None = None
    """The lowest share of golden cases, 0 to 1, that the final model must pass."""
    max_drop_points: Decimal = "5"
    """A drop of this many percentage points or more against a baseline fails."""
    max_drop_between_checkpoints: Decimal = "5"
    """A drop of this many percentage points or more below the stage's best so far is a regression."""
    on_regression: Literal["Confirm", "Immediate"] = "Confirm"
    """Confirm: training stops when the next checkpoint, evaluated early, regresses too. Immediate: at once."""
    must_pass: Annotated[list[CaseId], Field(max_length=64)] = []
    """Tags or case ids that must pass whatever the rate."""

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
    type: Literal["refusal", "judge", "guardrail"] = "refusal"
    """Who tells refusal from compliance."""


class SafetySource(ApiModel):
    builtin: Annotated[str, Field(max_length=63)] | None = None
    """A set that Tunegate ships."""
    config_map: Name | None = None
    """A ConfigMap of this namespace."""


class Safety(ApiModel):
    """The same safety set on the base model and the tuned one; both directions count."""

    source: SafetySource
    max_unsafe_increase: Annotated[int, Field(ge=0)] = 0
    """Cases by which unsafe compliance may rise. More fails."""
    max_over_refusal_increase_points: Decimal = "5"
    """A rise of refused harmless requests by this many percentage points or more fails."""
    scorer: SafetyScorer = SafetyScorer()


class Endpoint(ApiModel):
    """An OpenAI-compatible server."""

    url: Annotated[str, Field(pattern=r"^https?://", max_length=1024)]
    model: Annotated[str, Field(max_length=256)]
    secret_name: Name | None = None


class Target(ApiModel):
    """What the gate judges on its own: exactly one of these."""

    fine_tune_job: Name | None = None
    model: Uri | None = None
    endpoint: Endpoint | None = None


class EvalGateSpec(ApiModel):
    """What to judge by. Running jobs keep the gate as they read it."""

    golden: Golden
    """The golden set."""
    generation: Generation = Generation()
    thresholds: Thresholds = Thresholds()
    baselines: Annotated[list[BaselineName], Field(max_length=2)] = ["BaseModel", "LastPublished"]
    """What the model is compared with. BaseModel: the model training started from. LastPublished: the newest
    version published through this gate to the same URI; skipped while there is none."""
    safety: Safety | None = None
    target: Target | None = None
    """What to judge on its own, besides the jobs that name this gate."""
    schedule: Annotated[str, Field(max_length=128)] | None = None
    """When to judge the target, as a cron line in UTC."""
    dry_run: bool = False
    """True: verdicts are recorded but stop and block nothing."""


class EvalGate(ApiModel):
    """Judges checkpoints and final models of FineTuneJobs by a golden set, and keeps the record."""

    api_version: Literal["tunegate.dev/v1alpha1"] = "tunegate.dev/v1alpha1"
    kind: Literal["EvalGate"] = "EvalGate"
    metadata: ObjectMeta
    spec: EvalGateSpec
    status: EvalGateStatus = EvalGateStatus()
