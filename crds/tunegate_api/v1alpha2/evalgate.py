"""The types of an EvalGate's spec: sets of cases with rules, what a model is compared with, and
generation."""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field

from tunegate_api.meta import ApiModel, Decimal, ObjectMeta
from tunegate_api.v1alpha2.case_source import SetName
from tunegate_api.v1alpha2.compared import ComparedSubject, ComparedType, PinnedVersion
from tunegate_api.v1alpha2.endpoint import Endpoint
from tunegate_api.v1alpha2.evalgate_status import EvalGateStatus
from tunegate_api.v1alpha2.graders import GateGrader
from tunegate_api.v1alpha2.sets import GateSet
from tunegate_api.v1alpha2.shares import Percent
from tunegate_api.v1alpha2.values import Between


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


class ErrorRateMeasurement(ApiModel):
    """Measurement of the gate's own error rate. The final gate of the first job with a base model evaluates
    the final model again, and evaluates models that are made worse on purpose."""

    repeats: Annotated[int, Field(ge=1, le=20, examples=[4])] = 4
    """Number of times that the final model is evaluated again, with other batches, to find cases that change
    their outcome by chance. Each takes as long as the golden set does."""
    min_detection: Annotated[Percent | None, Field(examples=["80%"])] = None
    """Minimum share of models that are worse by `failAtDrop` that the gate must find.
    The lower 95 % bound of the measured share counts. If it is smaller, a model that would pass is
    Inconclusive, and the gate is not Ready for later jobs. If omitted, the error rate is only reported."""


class EvalGateSpec(ApiModel):
    """Specification of an EvalGate. A running job uses the spec that it read when it started; later changes
    do not affect it."""

    sets: Annotated[list[GateSet], Field(min_length=1, max_length=4)]
    """The sets of cases that models are evaluated on, with their rules: one of the kind Golden, and at most
    one of the kind Safety; and sets of the kind Agreement, which graders are tested with."""
    generation: Generation = Generation()
    """How outputs are generated."""
    compare_with: Annotated[list[ComparedSubject], Field(max_length=4)] = [
        ComparedSubject(type="BaseModel"),
        ComparedSubject(type="LastPublished"),
    ]
    """What the model is compared with, by the same rules, at most one entry of each type. An empty list
    compares with nothing. If omitted, BaseModel and LastPublished."""
    graders: Annotated[list[GateGrader], Field(max_length=3)] = []
    """Servers that grade answers, by name: at most one Guardrail, and at most one Model with `agreement`. A
    grader is tested before a job trains. If it fails the test, the job fails; later, or if only advisory
    cases need it, the cases that it must grade are errors instead."""
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
    def golden(self) -> GateSet:
        """The set of the kind Golden."""
        return next(each for each in self.sets if each.kind == "Golden")

    @property
    def safety(self) -> GateSet | None:
        """The set of the kind Safety."""
        return next((each for each in self.sets if each.kind == "Safety"), None)

    def path_of(self, part: GateSet) -> tuple[str | int, ...]:
        """The path of a set from the root of the EvalGate."""
        return ("spec", "sets", self.sets.index(part))

    @property
    def case_sets(self) -> dict[SetName, GateSet]:
        """The sets by what results call them."""
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
    def judge(self) -> GateGrader | None:
        """The model that scores golden cases, and training data if a job names it."""
        return next((each for each in self.graders if each.is_judge), None)

    @property
    def guardrail(self) -> GateGrader | None:
        """The guardrail of golden cases."""
        return next((each for each in self.graders if each.type == "Guardrail"), None)

    @property
    def safety_grader(self) -> GateGrader | None:
        """The grader of the safety set. None for phrases, and without a safety set."""
        return self.grader(self.safety.grader) if self.safety and self.safety.grader else None

    def grader(self, name: str) -> GateGrader | None:
        """Return the grader with this name."""
        return next((each for each in self.graders if each.name == name), None)

    def agreement_set(self, grader: GateGrader) -> GateSet | None:
        """Return the set that a grader is tested with; None if it has none of its own."""
        name = grader.agreement and grader.agreement.set
        return next((each for each in self.sets if each.name == name), None)

    def settings_of(self, grader: GateGrader | None) -> list[Any] | None:
        """Return everything that the answers of a grader depend on, and whether they count. None
        without a grader."""
        if grader is None:
            return None
        people, wanted = self.agreement_set(grader), grader.agreement
        minimums = [wanted.min_recall, wanted.min_specificity] if wanted else []
        answers = [people.sha256, people.source.inline] if people else []
        return [grader.endpoint.url, grader.endpoint.model, grader.rubric, grader.protocol, minimums, answers]

    @property
    def scoring(self) -> str:
        """The first 12 characters of the digest of the settings that outcomes depend on besides the golden
        set: of the generation, the judge and the guardrail. It is short because status has a limit."""
        generation = self.generation
        settings = [
            generation.samples and generation.samples.to_wire(),
            generation.max_new_tokens,
            generation.reasoning,
            self.settings_of(self.judge),
            self.settings_of(self.guardrail),
        ]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


class EvalGate(ApiModel):
    """EvalGate evaluates the checkpoints and final models of FineTuneJobs on a golden set, and records the
    results."""

    api_version: Literal["tunegate.dev/v1alpha2"] = "tunegate.dev/v1alpha2"
    kind: Literal["EvalGate"] = "EvalGate"
    metadata: ObjectMeta
    spec: EvalGateSpec
    status: EvalGateStatus = EvalGateStatus()
