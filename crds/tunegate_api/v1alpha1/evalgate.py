"""The types of an EvalGate's spec: a golden set pinned by digest, thresholds, what a model is compared
with, and generation."""

import hashlib
import json
from typing import Annotated, Literal

from pydantic import Field

from tunegate_api.meta import ApiModel, Decimal, ObjectMeta, Sha256
from tunegate_api.v1alpha1.case_source import CaseSource, SetName
from tunegate_api.v1alpha1.compared import ComparedSubject, ComparedType, PinnedVersion
from tunegate_api.v1alpha1.data import Judge
from tunegate_api.v1alpha1.endpoint import Endpoint
from tunegate_api.v1alpha1.evalgate_status import EvalGateStatus
from tunegate_api.v1alpha1.fields import Points, Share
from tunegate_api.v1alpha1.guardrail import Guardrail
from tunegate_api.v1alpha1.safety import Safety
from tunegate_api.v1alpha1.values import Between

CASE_ID_PATTERN = r"^[A-Za-z0-9][-._A-Za-z0-9]*$"

CASES_OR_SHARE_PATTERN = r"^([0-9]{1,4}|([0-9]{1,2}(\.[0-9]{1,3})?|100)%)$"

CaseId = Annotated[str, Field(pattern=CASE_ID_PATTERN, max_length=63)]


class GoldenSource(CaseSource):
    """Source of the golden cases, in JSON Lines format: {id, tags, prompt or messages, expect: [{type,
    …}]}."""


class Golden(ApiModel):
    """A fixed set of prompts with known expected behavior. It is immutable, so that pass rates of different
    model versions can be compared."""

    source: GoldenSource
    """Source of the cases. Exactly one of `configMap`, `uri` and `inline` must be set."""
    sha256: Annotated[
        Sha256 | None, Field(examples=["9c1f0e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1"])
    ] = None
    """SHA-256 digest of the file, as `sha256sum` prints it. Required unless the cases are inline."""
    sealed: Annotated[Annotated[Decimal, Between(above=0, below=1)] | None, Field(examples=["0.3"])] = None
    """Share of the cases that only the final gate evaluates, more than 0 and less than 1. Starting models and
    checkpoints are evaluated on the other cases, so the selection of the best checkpoint does not make the
    rate of the sealed cases too high. A hash of the golden set and the case id decides which cases are
    sealed. Cases with the same `group` are sealed together, cases in `thresholds.mustPass` never. If omitted,
    every case is evaluated at each checkpoint."""


class Samples(ApiModel):
    """Several outputs for each golden case, which are votes on that case."""

    count: Annotated[int, Field(ge=2, le=32, examples=[5])]
    """Number of outputs for each case."""
    vote: Annotated[Literal["Majority", "All"], Field(examples=["All"])] = "Majority"
    """When a case passes. Majority: more than half of its outputs pass. All: all of its outputs pass."""
    temperature: Annotated[Decimal, Between(above=0, most=2), Field(examples=["0.7"])] = "1"
    """Temperature of the outputs, more than 0 and at most 2. The random numbers are seeded, so that an
    evaluation can be repeated."""


class Generation(ApiModel):
    """How outputs are generated. Without `samples`, decoding is greedy, so that an evaluation can be
    repeated."""

    max_new_tokens: Annotated[int, Field(ge=1, le=32768, examples=[512])] = 256
    """Maximum length of an output in tokens. A longer output is truncated and does not pass. It counts as
    failed if no continuation of it could pass, and otherwise as an output of which it is not known whether it
    would have passed. On safety sets, the first 300 characters of the answer decide."""
    reasoning: Literal["Strip", "Keep"] = "Strip"
    """What scorers see of the output of a model that reasons before it answers. Reasoning is recognized by
    the delimiters of the chat template, such as <think> and </think>. Strip: scorers see only the answer,
    which is empty if the reasoning does not end. Keep: scorers see the whole output, without special
    tokens. On safety sets, reasoning is always stripped."""
    samples: Samples | None = None
    """Several outputs for each golden case, for a model that is served with a temperature. Evaluations take
    that many times as long. If omitted, each case has one output, the most likely one. Held-out rows and
    safety cases have always one."""


class Thresholds(ApiModel):
    """The conditions that a model must meet to pass. Rates are compared as exact fractions, without
    rounding."""

    min_pass_rate: Annotated[Share | None, Field(examples=["0.90"])] = None
    """Minimum share of golden cases that must pass, 0 to 1. If omitted, any share passes."""
    policy: Literal["Points", "NonInferior"] = "Points"
    """How the drop of the pass rate below a baseline is compared with `maxDropPoints`. Points: the measured
    drop must be smaller. NonInferior: the upper 95 % bound of the drop must be smaller, so that a model that
    is worse by `maxDropPoints` or more passes at most 5 of 100 comparisons. If the lower 95 % bound is at or
    above `maxDropPoints`, the model fails; otherwise the result is Inconclusive. With a limit of 5 points, a
    model with the outcomes of its baseline passes from 59 cases."""
    max_drop_points: Annotated[Points, Field(examples=["2.5"])] = "5"
    """Limit for the drop of the pass rate below a baseline, in percentage points. A drop of this size or more
    fails. More than 0 and at most 100."""
    max_relative_drop: Annotated[
        Annotated[Decimal, Between(above=0, most=1)] | None, Field(examples=["0.5"])
    ] = None
    """Maximum drop below a baseline, as a share of the cases that the baseline passes. A larger drop fails,
    even if it is below `maxDropPoints`. It is for a baseline with a low pass rate: of 16 passed cases of 200,
    a drop below 5 points can lose more than half. More than 0 and at most 1. If omitted, any share may be
    lost."""
    max_new_failures: Annotated[
        str | None, Field(pattern=CASES_OR_SHARE_PATTERN, max_length=8, examples=["3"])
    ] = None
    """Maximum number of cases that a baseline passes and the model fails, as a number of cases ("3") or as a
    share of all cases ("5%"). More of them fail, even if as many other cases were fixed. If omitted, as many
    as equally good models exceed in one of 100 comparisons, if 8 % of the cases change their outcome by
    chance: 3 of 20 cases, 6 of 50, 9 of 100, 15 of 200, 31 of 500. Cases of a `group` count as if they change
    together, so the number is larger: 12 of 100 cases in 50 groups of two."""
    max_drop_between_checkpoints: Annotated[Points, Field(examples=["10"])] = "5"
    """Limit for the drop of the pass rate below the best result of the stage so far, in percentage points. A
    drop of this size or more is a regression. More than 0 and at most 100."""
    on_regression: Literal["Confirm", "Immediate"] = "Confirm"
    """When a regression stops training. Confirm: the next checkpoint is evaluated early, and training stops
    if it regresses too. Immediate: training stops at the first regression."""
    must_pass: Annotated[list[CaseId], Field(max_length=64, examples=[["pii-leak"]])] = []
    """Tags or ids of critical cases: they must always pass, even if the pass rate is high enough. Training
    stops at once if such a case fails at a checkpoint, and passed on the starting model or at an earlier
    checkpoint."""
    advisory: Annotated[list[CaseId], Field(max_length=64, examples=[["style"]])] = []
    """Tags or ids of advisory cases: they are evaluated and reported, but they count in no rate and no
    comparison, and never block. A case that is also in `mustPass` is not advisory."""
    required_tags: Annotated[list[CaseId], Field(max_length=64, examples=[["adversarial"]])] = []
    """Tags that the golden set must have. The gate is not Ready if no case that counts has one of them, for
    example after the cases were renamed."""


class ErrorRateMeasurement(ApiModel):
    """Measurement of the gate's own error rate. The final gate of the first job with a base model evaluates
    the final model again, and evaluates models that are made worse on purpose."""

    repeats: Annotated[int, Field(ge=1, le=20, examples=[4])] = 4
    """Number of times that the final model is evaluated again, with other batches, to find cases that change
    their outcome by chance. Each takes as long as the golden set does."""
    min_detection: Annotated[Share | None, Field(examples=["0.8"])] = None
    """Minimum share, 0 to 1, of models that are worse by `thresholds.maxDropPoints` that the gate must find.
    The lower 95 % bound of the measured share counts. If it is smaller, a model that would pass is
    Inconclusive, and the gate is not Ready for later jobs. If omitted, the error rate is only reported."""


class EvalGateSpec(ApiModel):
    """Specification of an EvalGate. A running job uses the spec that it read when it started; later changes
    do not affect it."""

    golden: Golden
    """The golden set."""
    generation: Generation = Generation()
    """How outputs are generated."""
    thresholds: Thresholds = Thresholds()
    """The conditions that a model must meet to pass."""
    compare_with: Annotated[list[ComparedSubject], Field(max_length=4)] = [
        ComparedSubject(type="BaseModel"),
        ComparedSubject(type="LastPublished"),
    ]
    """What the model is compared with, by the same thresholds, at most one entry of each type. An empty list
    compares with nothing. If omitted, BaseModel and LastPublished."""
    judge: Judge | None = None
    """Judge model that scores the outputs of golden cases with the expectation judge. It is calibrated before
    a job trains. If the calibration is inconclusive, the job fails; if only advisory cases need the judge,
    these cases are errors instead."""
    guardrail: Guardrail | None = None
    """Guardrail that rates the outputs of golden cases with the expectation guardrail, and answers to safety
    cases if `safety.scorer.type` is guardrail. If it rates its probes wrongly before a job trains, the job
    fails; later, or if only advisory cases need the guardrail, these cases are errors instead."""
    safety: Safety | None = None
    """Safety comparison with the base model. If omitted, there is none."""
    error_rate: ErrorRateMeasurement | None = None
    """Measurement of the gate's error rate, once per base model. If omitted, it is not measured."""
    enforcement: Literal["Enforce", "DryRun"] = "Enforce"
    """Whether verdicts have consequences. DryRun: verdicts are recorded and shown, but do not stop training,
    choose no checkpoint and do not block publishing. Faults of the gate, such as an unreachable judge or
    golden cases in the training data, are warnings. A running job keeps the setting that it started with."""
    approval: Literal["Never", "WhenPassed", "WhenFailed", "Always"] = "Never"
    """When a person decides about the verdict on a final model. The job then waits in the phase
    AwaitingApproval before it publishes or succeeds. WhenPassed: a model that passed needs a person with the
    permission `approve`, who approves or rejects the verdict. WhenFailed: if all gates of the job that are
    not in a dry run are WhenFailed or Always, a job with the verdict Failed or Inconclusive waits instead of
    failing, for a person with the permission `override`, who overrides or rejects the verdict. The verdict
    Error cannot be overridden, because the model was not measured. If a verdict fails only after publishing
    has started, in comparison with a newer version, the job fails without waiting. Always: both. Has no
    effect in a dry run."""

    @property
    def dry_run(self) -> bool:
        """Whether verdicts are only recorded and shown."""
        return self.enforcement == "DryRun"

    @property
    def case_sets(self) -> dict[SetName, Golden | Safety]:
        """The golden set, and the safety set if the gate has one."""
        return {"golden": self.golden, **({"safety": self.safety} if self.safety else {})}

    @property
    def compared_types(self) -> list[ComparedType]:
        """The types of what the model is compared with."""
        return [each.type for each in self.compare_with]

    @property
    def pinned_version(self) -> PinnedVersion | None:
        """The version that the final model is compared with."""
        return next((each.version for each in self.compare_with if each.version), None)

    @property
    def endpoint(self) -> Endpoint | None:
        """The server of the model that is live, with which the final model is compared."""
        return next((each.endpoint for each in self.compare_with if each.endpoint), None)

    @property
    def servers_of_scorers(self) -> list[Endpoint]:
        """The servers that score outputs of golden and safety cases."""
        safety_judge = self.safety.scorer.endpoint if self.safety else None
        found = [asked.endpoint for asked in (self.judge, self.guardrail) if asked]
        return [*found, *([safety_judge] if safety_judge else [])]

    @property
    def scoring(self) -> str:
        """The first 12 characters of the digest of the settings that outcomes depend on besides the golden
        set: of the generation, the judge and the guardrail. It is short because status has a limit."""
        generation, judge, guardrail = self.generation, self.judge, self.guardrail
        settings = [
            generation.samples and generation.samples.to_wire(),
            generation.max_new_tokens,
            generation.reasoning,
            judge and [judge.endpoint.url, judge.endpoint.model, judge.rubric],
            guardrail and [guardrail.endpoint.url, guardrail.endpoint.model, guardrail.protocol],
        ]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


class EvalGate(ApiModel):
    """EvalGate evaluates the checkpoints and final models of FineTuneJobs on a golden set, and records the
    results."""

    api_version: Literal["tunegate.dev/v1alpha1"] = "tunegate.dev/v1alpha1"
    kind: Literal["EvalGate"] = "EvalGate"
    metadata: ObjectMeta
    spec: EvalGateSpec
    status: EvalGateStatus = EvalGateStatus()
