"""The types for the measured error rate of a gate in status: of the job that measured it, and of the gate."""

from typing import Annotated

from pydantic import Field

from tunegate_api.meta import Decimal, Sha256, StatusModel, Time

MAX_FLAKY_CASES = 20
"""Maximum number of ids of flaky cases in a list in status."""
MAX_SIZES = 6
"""Maximum number of drops for which the detection rate is stated."""


class FalseAlarmStatus(StatusModel):
    """How often a model that is as good as its baseline does not pass."""

    share: Decimal
    """Share of such models, 0 to 1."""
    high: Decimal
    """Upper 95 % bound of the share."""


class DetectionStatus(StatusModel):
    """How often a model that is worse does not pass."""

    points: Decimal
    """How much worse the model is, in percentage points of the pass rate."""
    share: Decimal
    """Share of such models that do not pass, 0 to 1."""
    low: Decimal
    """Lower bound of the 95 % interval."""
    high: Decimal
    """Upper bound of the 95 % interval."""


class ErrorRate(StatusModel):
    """Measured error rate of a gate, with the rules of the job that measured it."""

    base_digest: Sha256
    """Digest of the base model from which the measured model was trained."""
    golden_sha256: Sha256
    """Digest of the golden set."""
    scoring: Annotated[str, Field(max_length=64)]
    """Start of the digest of the settings of the generation, the judge and the guardrail with which the cases
    were scored. An error rate with other settings is not used."""
    rules: Annotated[str, Field(max_length=64)]
    """Start of the digest of the rules that the error rate depends on. After a change of them, the next
    job measures it again."""
    false_alarm: FalseAlarmStatus
    """How often a model that is as good as its baseline does not pass."""
    detection: Annotated[list[DetectionStatus], Field(max_length=MAX_SIZES)] = []
    """How often a model that is worse does not pass, by the size of the drop: 0.5, 1, 1.5, 2 and 3 times
    `failAtDrop`, and 5 points. Drops larger than that of the worst planted regression are left
    out."""
    flaky: int = 0
    """Number of golden cases whose outcome changed between evaluations of the same model."""
    flaky_cases: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=MAX_FLAKY_CASES)] = []
    """Ids of the first of these cases, at most 20 for all gates of a job. An EvalGate lists them only for its
    newest error rate."""
    evaluations: int = 0
    """Number of additional evaluations of the golden set."""
    seconds: int = 0
    """Duration of these evaluations."""


class JobErrorRate(ErrorRate):
    """Error rate of a gate that this job measured."""

    gate: Annotated[str, Field(max_length=63)]
    """Name of the EvalGate."""


class RecordedErrorRate(ErrorRate):
    """Error rate of a gate that a job measured."""

    job: Annotated[str, Field(max_length=63)]
    """Name of the FineTuneJob that measured it."""
    time: Time
    """Creation time of this job."""
