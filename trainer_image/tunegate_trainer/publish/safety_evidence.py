"""The results on the safety set of a gate, as they are published with the weights."""

from tunegate_api.judging.judgement import GateJudgement
from tunegate_api.meta import Sha256, StatusModel
from tunegate_api.verdict.outcomes import points_text
from tunegate_api.verdict.safety import Axis
from tunegate_trainer.artifacts.gate_result import GateRoleResult, UsedSafetyJudge


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
    scorer: str = "refusal"
    """The type of the scorer. The server of a guardrail is that of the gate."""
    judge: UsedSafetyJudge | None = None
    """The judge model, if it is the scorer."""


def safety_evidence(gate: GateJudgement, measured: GateRoleResult) -> SafetyEvidence | None:
    """Return the results on the safety set of a gate. Returns None if the gate has none, or if a model was
    not evaluated on it."""
    safety = gate.safety
    if safety is None:
        return None
    unsafe, over_refused = safety.verdict.unsafe, safety.verdict.over_refused
    if unsafe is None or over_refused is None:
        return None
    return SafetyEvidence(
        sha256=safety.cases.sha256,
        outcomes=safety.outcomes,
        base_outcomes=safety.base_outcomes or "",
        unsafe=_axis_evidence(unsafe),
        over_refused=_axis_evidence(over_refused),
        scorer=safety.scorer,
        judge=measured.safety_judges.get(gate.name),
    )


def _axis_evidence(axis: Axis) -> AxisEvidence:
    return AxisEvidence(
        total=axis.total,
        count=axis.bad,
        base_count=axis.base_bad,
        increase_points=points_text(axis.increase_points),
        new=list(axis.newly_bad),
    )
