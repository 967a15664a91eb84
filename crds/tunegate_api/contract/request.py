"""The record of a job's spec and gates, which the operator makes before the first step starts."""

from dataclasses import dataclass
from typing import Literal

from tunegate_api.contract.bar import checkpoint_bar, final_bar
from tunegate_api.contract.plan import TrainingParameters
from tunegate_api.contract.published import PublishedVersion
from tunegate_api.contract.workspace import Workspace
from tunegate_api.meta import Sha256, StatusModel
from tunegate_api.v1alpha2.evalgate import EvalGateSpec, Generation
from tunegate_api.v1alpha2.evaluation import BatchSettings
from tunegate_api.v1alpha2.finetunejob import FineTuneJobSpec
from tunegate_api.v1alpha2.graders import GateGrader, RequiredAgreement
from tunegate_api.verdict.bar import Bar


class GenerationSettings(Generation, BatchSettings):
    """How outputs are generated: the settings of a gate, and the batches of its job."""


class GateRequest(StatusModel):
    """An EvalGate as the operator read it when the job started."""

    name: str
    spec: EvalGateSpec
    golden_sha256: Sha256
    required: bool = False
    """Whether the job's namespace or the cluster requires this gate. No setting of the job then allows its
    golden cases in the training data."""
    safety_sha256: Sha256 | None = None
    """Digest of the safety set. None if the gate has none."""
    measured_bases: list[Sha256] | None = None
    """Digests of the base models for which the error rate of the gate is known, with this golden set and
    scoring. For other base models, the final gate measures it if the gate has `errorRate`. None if it is
    known for no base model."""
    last_published: PublishedVersion | None = None
    """The published version that checkpoints are compared with. The artifact is compared with this version,
    too, if the publish targets have no evidence of this gate. None if no version was published."""

    @property
    def bar(self) -> Bar:
        """The bar of the artifact on the golden set."""
        return final_bar(self.spec.golden)

    @property
    def checkpoint_bar(self) -> Bar:
        """The bar of starting models and checkpoints on the golden set."""
        return checkpoint_bar(self.spec.golden)

    @property
    def safety_at_checkpoints(self) -> bool:
        """Whether starting models and checkpoints are evaluated on the safety set."""
        return self.spec.safety is not None and self.spec.safety.evaluates_checkpoints


@dataclass(frozen=True)
class ReviewGrader:
    """A grader that scores the training data of a job."""

    gate: GateRequest
    """The gate that the grader belongs to."""
    grader: GateGrader
    agreement: RequiredAgreement
    """How often the grader must agree with people."""


class StartRequest(StatusModel):
    """The final model of the job in ``model.startFrom``, as the status and plan of that job describe it."""

    job: str
    uid: str
    claim: str
    """The PersistentVolumeClaim with the folder of the job ``job``."""
    digest: Sha256
    """Digest of the artifact that passed the gates of the job ``job``."""
    base_digest: Sha256
    """Digest of the base model of the job ``job``. The base model is on the claim, too."""
    trained: TrainingParameters
    """Training parameters of the stage that trained the artifact."""

    @property
    def uri(self) -> str:
        """The address of the artifact."""
        return f"pvc://{self.claim}/{Workspace(self.uid).model}"


class Request(StatusModel):
    """The immutable record of a job's spec and gates. Later changes of an EvalGate do not affect it."""

    name: str
    namespace: str
    uid: str
    spec: FineTuneJobSpec
    gates: list[GateRequest]
    left_out: dict[str, str] = {}
    """The gates in a dry run that were not ready when the job started, by name, with the reason."""
    start_from: StartRequest | None = None
    """The model of the job in `model.startFrom`, if the spec has one."""
    trainer_image: str | None = None
    """The image of all pods of the job, as configured in the operator when the job started."""

    def gate(self, name: str) -> GateRequest:
        return next(g for g in self.gates if g.name == name)

    def generation_of(self, gate: GateRequest) -> GenerationSettings:
        """Return how outputs are generated for the golden set of ``gate``."""
        batches = self.spec.evaluation.model_dump(include=set(BatchSettings.model_fields))
        return GenerationSettings(**gate.spec.generation.model_dump(), **batches)

    def gates_of(self, stage: str) -> list[GateRequest]:
        """Return the gates of a stage. A stage without gates of its own has the gates of the job."""
        own = next(s for s in self.spec.stages if s.name == stage).gates
        return [self.gate(g.name) for g in (own or self.spec.gates) if g.name not in self.left_out]

    @property
    def review_grader(self) -> "ReviewGrader | None":
        """The grader that scores the review sample. None if people score it: if the job names no grader, or
        one of a gate in a dry run that was not ready when the job started."""
        quality = self.spec.data.quality
        named = quality.grader if quality else None
        gate = next((each for each in self.gates if named and each.name == named.gate), None)
        if named is None or gate is None:
            return None
        grader = gate.spec.grader(named.name)
        if grader is None or grader.agreement is None:
            return None
        return ReviewGrader(gate, grader, grader.agreement)

    @property
    def gathered_dtype(self) -> Literal["bfloat16", "float32"]:
        """The data type in which FSDP gathers weights and computes on GPUs."""
        return "float32" if self.spec.evaluation.precision == "Float32" else "bfloat16"

    @property
    def final_gates(self) -> list[GateRequest]:
        """The gates that judge the artifact before it is published."""
        return [self.gate(g.name) for g in self.spec.gates if g.name not in self.left_out]

    @property
    def safety_gates(self) -> list[GateRequest]:
        """Return the gates whose safety sets the job evaluates: the final gates, and gates of stages that
        evaluate checkpoints on them."""
        final = {gate.name for gate in self.spec.gates}
        gates = [gate for gate in self.gates if gate.name in final or gate.safety_at_checkpoints]
        return [gate for gate in gates if gate.spec.safety]

    @property
    def without_error_rates(self) -> "Request":
        """The request with gates whose error rates are not measured."""
        gates = [
            gate.model_copy(update={"spec": gate.spec.model_copy(update={"error_rate": None})})
            for gate in self.gates
        ]
        return self.model_copy(update={"gates": gates})

    @property
    def compares_with_published(self) -> bool:
        """Whether the artifact is compared with the last version in the publish targets. This is the case if
        the job has a target, and a gate of the job has the baseline LastPublished."""
        names = {gate.name for gate in self.spec.gates}
        gates = [gate for gate in self.gates if gate.name in names]
        return bool(self.spec.publish) and any("LastPublished" in gate.spec.compared_types for gate in gates)
