"""The evidence that is published with a model: the verdict with its numbers, and how the model was evaluated.

:mod:`tunegate_trainer.publish` writes it, and versions that are evaluated again are read by it.
"""

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from tunegate_api.contract.digests import files_digest
from tunegate_api.contract.request import GenerationSettings
from tunegate_api.meta import Decimal, Sha256, StatusModel, Time, first_problem
from tunegate_api.v1alpha2.error_rate_status import ErrorRate
from tunegate_api.v1alpha2.evaluation_status import PersonDecision
from tunegate_api.v1alpha2.finetunejob import MetricType
from tunegate_api.verdict.outcomes import VerdictState
from tunegate_trainer.artifacts.gate_result import UsedServer
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.process.files import read_manifest

EVIDENCE = "evidence"
VERDICT = f"{EVIDENCE}/verdict.json"
CARD = "README.md"


class FindingEvidence(StatusModel):
    """The result of one rule of a gate."""

    rule: str
    state: VerdictState
    message: str


class BaselineEvidence(StatusModel):
    """The comparison with a baseline on the same golden set."""

    passed: int
    delta_points: str


class EndpointEvidence(StatusModel):
    """The endpoint that a gate compared with."""

    url: str
    model: str
    outputs: str
    """The file with its outputs, relative to the folder of the version."""


class AxisEvidence(StatusModel):
    """The requests of one kind that the models did not treat as they should: harmful ones with an unsafe
    answer, or harmless ones that were refused."""

    total: int
    """Number of requests of this kind."""
    count: int
    base_count: int
    """The same number for the base model."""
    increase_points: str
    """The difference between both as a share of ``total``, in percentage points."""
    new: list[str]
    """Ids of the cases that the base model treated as it should."""


class SafetyEvidence(StatusModel):
    """The comparison with the base model on a safety set."""

    sha256: Sha256
    outcomes: str
    """The outcome of each case as one letter, in the order of the set."""
    base_outcomes: str
    """The same for the base model."""
    unsafe: AxisEvidence
    over_refused: AxisEvidence
    grader: str | None = None
    """The type of the grader. None for phrases. The server of a guardrail is that of the gate."""
    judge: UsedServer | None = None
    """The judge model, if the grader is a Model."""


class GateEvidence(StatusModel):
    """The verdict of one gate, with its counts."""

    name: str
    golden_sha256: Sha256
    generation: GenerationSettings | None
    passed: int
    total: int
    outcomes: str
    """The outcome of each case as one letter, in the order of the set. The next version is compared with
    these outcomes."""
    rate: str
    baselines: dict[str, BaselineEvidence]
    skipped: list[str]
    """The baselines that were not compared, because there was no version to compare with."""
    endpoint: EndpointEvidence | None = None
    """The model that was live when the gate judged. Absent if the gate names none."""
    judge: UsedServer | None = None
    """The judge model that scored outputs, and its calibration. Absent if the gate names none."""
    guardrail: UsedServer | None = None
    """The guardrail that rated outputs, and its probes. Absent if the gate names none."""
    safety: SafetyEvidence | None = None
    error_rate: ErrorRate | None = None
    """The error rate of the gate. Absent if the job did not measure it."""
    dry_run: bool
    verdict: VerdictState
    findings: list[FindingEvidence]


class TaskEvidence(StatusModel):
    """The result of one task metric on the test split. In a job, only the final gate reads the test split."""

    name: str
    type: MetricType
    schema_sha256: Sha256 | None = None
    """The digest of the JSON schema. Absent for all types but JSONSchema."""
    generation: GenerationSettings | None
    passed: int
    total: int
    rate: str
    """The value that is compared with ``min``. For a count-based metric, it is not ``passed`` divided by
    ``total``."""
    min: str
    base_passed: int | None
    verdict: VerdictState
    message: str


class AgreementEvidence(StatusModel):
    """How often a judge model agrees with people on the good or on the bad rows."""

    agreed: int
    total: int
    lower_bound: Decimal
    """The lower bound of the 95 % confidence interval of the rate."""
    min: Decimal
    """The minimum of the lower bound."""


class JudgeEvidence(StatusModel):
    """A judge model, and its scores for rows that people had scored before."""

    model: str
    instructions_sha256: Sha256
    """The digest of its instructions, which include the rubric."""
    calibration: Literal["Passed", "Inconclusive"]
    """Inconclusive: its scores did not count."""
    calibration_sha256: Sha256
    """The digest of the calibration rows."""
    recall: AgreementEvidence
    """The bad rows that it found."""
    specificity: AgreementEvidence
    """The good rows that it accepted."""
    unscored: int
    """The number of calibration rows that it gave no score."""
    faults: dict[str, int]
    """The number of failed requests by kind of fault."""


class ReviewEvidence(StatusModel):
    """The review of a sample of the training rows. It has counts and digests, but no names of reviewers."""

    sample: Sha256
    """The digest of the sample."""
    rows: int
    """The number of rows in the sample."""
    min_score: Decimal
    reviewed: int | None = None
    """The number of rows that were scored. This field and the next ones are absent if the ConfigMap with the
    scores was deleted before the model was published."""
    good: int | None = None
    """The number of good rows."""
    score: Decimal | None = None
    """The share of good rows."""
    passed: bool | None = None
    """Whether all rows were scored, and enough of them are good."""
    reviewers: int | None = None
    """The number of people who scored rows."""
    judged: int | None = None
    """The number of rows that the judge model scored instead of people."""
    judge: JudgeEvidence | None = None
    """Absent without a judge model."""


class VerdictEvidence(StatusModel):
    """The content of evidence/verdict.json: why this model was published. It has counts and digests, but no
    prompts or outputs."""

    job: str
    namespace: str
    uid: str
    time: Time
    stage: str
    step: int
    """The optimizer step of the checkpoint from which the artifact was built."""
    selection: str | None = None
    """Among how many checkpoints, and by which golden sets, the model was selected, so that these golden
    rates are optimistic. None if there was only one checkpoint."""
    artifact_digest: Sha256
    """The SHA-256 of ``artifact_files`` as JSON, with sorted keys and without spaces."""
    artifact_files: dict[str, Sha256]
    """The files that were evaluated, with their digests. The model card and the evidence were added later."""
    weights_digest: Sha256
    """The digest of the checkpoint's weights, which is also recorded in the checkpoint's evaluation."""
    device: str
    """The device on which outputs were generated: ``cpu``, or the name of the GPU."""
    dtype: str
    """The dtype in which the whole model, or the adapter's base model, was loaded."""
    quantization: str | None
    """The quantization of the adapter's base model. None if it was not quantized, or for a whole model."""
    base_model: str
    base_model_digest: Sha256
    sources_sha256: dict[str, Sha256]
    """The SHA-256 of each data source, by its name."""
    data_sha256: dict[str, Sha256]
    """The SHA-256 of the files with the train, dev and test rows."""
    preference_sha256: dict[str, Sha256] = {}
    """The SHA-256 of the files with the train, dev and test pairs. Empty without preference data."""
    review: ReviewEvidence | None = None
    """The review of the training data. Absent without ``data.quality``."""
    verdict: VerdictState
    verdict_digest: Sha256
    """The digest of the verdict, see :func:`tunegate_api.judging.approval.verdict_digest`."""
    decision: PersonDecision | None = None
    """The approval or override of the verdict by a person. Absent if none was needed."""
    gates: list[GateEvidence]
    task_metrics: list[TaskEvidence]


class ModelEvidence(StatusModel):
    """A version's evidence: only the fields that describe how its model was evaluated."""

    dtype: str
    quantization: str | None = None
    base_model_digest: Sha256


def read_model_evidence(folder: Path) -> ModelEvidence:
    """Return how the version in ``folder`` was evaluated. Raises :class:`UserError` if its evidence does not
    have this."""
    try:
        return ModelEvidence.model_validate_json((folder / VERDICT).read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"it has no {VERDICT}") from error
    except ValidationError as error:
        raise UserError(f"its {VERDICT} cannot be read: {first_problem(error)}") from error


def evaluated_files(folder: Path) -> dict[str, Sha256]:
    """Return the evaluated files in the manifest of an artifact or a published version: all but the model
    card and the evidence."""
    files = read_manifest(folder).files
    return {name: one for name, one in files.items() if name != CARD and not name.startswith(f"{EVIDENCE}/")}


def evaluated_digest(folder: Path) -> Sha256:
    """Return the digest of the evaluated files in the manifest of a published version."""
    return files_digest(evaluated_files(folder))
