"""The results on the safety set of a gate, as they are published with the weights."""

from tunegate_api.judging.judgement import GateJudgement
from tunegate_api.verdict.outcomes import points_text
from tunegate_api.verdict.safety import Axis
from tunegate_trainer.artifacts.evidence import AxisEvidence, SafetyEvidence
from tunegate_trainer.artifacts.gate_result import GateRoleResult


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
        grader=safety.grader,
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
