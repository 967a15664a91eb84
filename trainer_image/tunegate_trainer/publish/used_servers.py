"""The judge model and the guardrail of a gate, for the evidence."""

from tunegate_api.contract import GateRequest
from tunegate_trainer.artifacts.gate_result import UsedGuardrail, UsedJudge
from tunegate_trainer.guardrail.guard import Guard
from tunegate_trainer.judge.gates import GateJudge, instructions_sha256
from tunegate_trainer.process.context import Context


def used_judge(gate: GateRequest, context: Context | None = None) -> UsedJudge | None:
    """Return the judge of a gate, with its calibration and faults in the job of ``context``. Returns None if
    the gate has none."""
    judge = gate.spec.judge
    if judge is None:
        return None
    calibrated = context.plan.gate_judges.get(gate.name) if context else None
    return UsedJudge(
        url=judge.endpoint.url,
        model=judge.endpoint.model,
        instructions_sha256=instructions_sha256(judge),
        calibration=calibrated.calibration if calibrated else None,
        faults=GateJudge(context, gate, judge).faults if context else {},
    )


def used_guardrail(gate: GateRequest, context: Context | None = None) -> UsedGuardrail | None:
    """Return the guardrail of a gate, with the result of its probes in this process. Returns None if the gate
    has none."""
    guardrail = gate.spec.guardrail
    if guardrail is None:
        return None
    guard: Guard | None = context.guards.get(gate.name) if context else None
    return UsedGuardrail(
        url=guardrail.endpoint.url,
        model=guardrail.endpoint.model,
        protocol=guardrail.protocol,
        probes=guard.probed if guard else None,
    )
