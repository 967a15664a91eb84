"""The judge models and the guardrail that a gate names."""

from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.request import GateRequest
from tunegate_trainer.artifacts.gate_result import UsedGuardrail, UsedJudge, UsedSafetyJudge
from tunegate_trainer.graders.model.compliance import INSTRUCTIONS
from tunegate_trainer.graders.model.instructions import instructions_sha256


def used_judge(gate: GateRequest) -> UsedJudge | None:
    """Return the judge of a gate, without its calibration and faults. Returns None if the gate has none."""
    judge = gate.spec.judge
    if judge is None:
        return None
    return UsedJudge(
        url=judge.endpoint.url,
        model=judge.endpoint.model,
        instructions_sha256=instructions_sha256(judge),
    )


def used_guardrail(gate: GateRequest) -> UsedGuardrail | None:
    """Return the guardrail of a gate, without its probes. Returns None if the gate has none."""
    guardrail = gate.spec.guardrail
    if guardrail is None:
        return None
    return UsedGuardrail(
        url=guardrail.endpoint.url, model=guardrail.endpoint.model, protocol=guardrail.protocol
    )


def used_safety_judge(gate: GateRequest) -> UsedSafetyJudge | None:
    """Return the judge of a gate's safety set, without its probes and faults. Returns None if it has none."""
    endpoint = gate.spec.safety.scorer.endpoint if gate.spec.safety else None
    if endpoint is None:
        return None
    return UsedSafetyJudge(
        url=endpoint.url, model=endpoint.model, instructions_sha256=sha256_text(INSTRUCTIONS)
    )
