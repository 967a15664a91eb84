"""gate/result.json: the gate role writes it; the publish role and the report read it without PyTorch."""

from tunegate_api.cases.probes import ProbeCounts, RefusalProbeCounts
from tunegate_api.contract.plan import CalibrationCounts
from tunegate_api.contract.published import PublishedVersion
from tunegate_api.contract.request import GenerationSettings
from tunegate_api.contract.results import ErrorRateOutcomes, Evaluation
from tunegate_api.judging.judgement import Judgement
from tunegate_api.meta import Mapped, Sha256, StatusModel
from tunegate_api.verdict.outcomes import VerdictState


class GateVerdict(StatusModel):
    """The verdict of one gate, or of the task metrics, on the artifact."""

    name: str
    """The gate's name, or ``taskMetrics``."""
    state: VerdictState
    message: str
    dry_run: bool = False
    """Whether the gate is a dry run, which is recorded but does not count for the final verdict."""


class EndpointOutputs(StatusModel):
    """The outputs of a gate's endpoint. They are published as evidence."""

    url: str
    """The base URL of the server."""
    model: str
    """The name of the model on the server."""
    sha256: Sha256
    """The digest of the file with the outputs in the folder ``gate/``."""


class UsedServer(StatusModel):
    """A judge model or a guardrail of a gate. It is published as evidence."""

    url: str
    """The base URL of the server."""
    model: str
    """The name of the model on the server."""
    protocol: str | None = None
    """The protocol of a guardrail."""
    instructions_sha256: Sha256 | None = None
    """The digest of the instructions of a judge, which include the rubric of the gate."""
    agreement_sha256: Sha256 | None = None
    """The digest of the agreement set. None if it is tested with the probes of Tunegate."""
    calibration: CalibrationCounts | None = None
    """How a judge scored the rows that people scored. None if no golden case needs it."""
    probes: ProbeCounts | RefusalProbeCounts | None = None
    """What it said about its probes in the final gate. None for the judge of golden cases, and if nothing
    needs the server."""
    faults: dict[str, int] = {}
    """Number of failed requests of the job by kind of fault. None of them was counted as an answer."""

    @property
    def identity(self) -> tuple[str | None, ...]:
        """What answers depend on. Answers of two servers cannot be compared if it differs."""
        return (self.url, self.model, self.protocol, self.instructions_sha256, self.agreement_sha256)


class GateRoleResult(StatusModel):
    """The content of gate/result.json: which artifact was evaluated and how, the outcomes, and the verdicts.

    The operator and the publish role do not trust ``verdict``. They compute it again from the evaluations.
    """

    stage: str
    step: int
    evaluated: Mapped[int]
    """Number of evaluated checkpoints of each stage, among which the best ones were selected."""
    artifact: Sha256
    """The digest in the artifact's manifest."""
    weights: Sha256
    """The digest of the checkpoint's weights, which is also recorded in the checkpoint's evaluation."""
    device: str
    """``cpu``, or the name of the GPU."""
    dtype: str
    """The dtype in which the weights of the whole model, or of the adapter's base model, were loaded."""
    quantization: str | None = None
    """The quantization of an adapter's base model. None if the base is not quantized, or for a whole
    model."""
    generation: dict[str, GenerationSettings]
    """The generation settings of each set, by the set's name in the evaluations."""
    rejudged: dict[str, list[PublishedVersion]] = {}
    """Maps the name of each gate to the published versions that were evaluated again on its golden set."""
    endpoints: dict[str, EndpointOutputs] = {}
    """The outputs of the endpoint of each gate. A gate whose server did not answer is missing."""
    judges: dict[str, UsedServer] = {}
    """The judge model of each gate that has one, by the name of the gate."""
    guardrails: dict[str, UsedServer] = {}
    """The guardrail of each gate that has one, by the name of the gate."""
    safety_judges: dict[str, UsedServer] = {}
    """The judge model of each safety set that one scores, by the name of the gate."""
    error_rates: dict[str, ErrorRateOutcomes] | None = None
    """The outcomes from which the error rate of each gate is computed, by the name of the gate. None if no
    error rate was measured."""
    evaluations: list[Evaluation]
    verdicts: list[GateVerdict]
    verdict: VerdictState
    """The worst of all verdicts that are not dry runs."""


def gate_verdicts(judgement: Judgement) -> list[GateVerdict]:
    """Return a verdict for each gate, and one for all task metrics."""
    gates = [
        GateVerdict(name=g.name, state=g.verdict.state, message=g.verdict.message, dry_run=g.dry_run)
        for g in judgement.gates
    ]
    tasks = GateVerdict(name="taskMetrics", state=judgement.task_state, message=judgement.task_message)
    return [*gates, tasks]
