"""The judge models and the guardrail that a gate names."""

from typing import Any

from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.request import GateRequest
from tunegate_api.v1alpha1.endpoint import Endpoint
from tunegate_trainer.artifacts.gate_result import UsedServer
from tunegate_trainer.graders.model.compliance import INSTRUCTIONS
from tunegate_trainer.graders.model.instructions import instructions_sha256


def used_judge(gate: GateRequest) -> UsedServer | None:
    """Return the judge of a gate, without its calibration and faults. Returns None if the gate has none."""
    judge = gate.spec.judge
    return _used(judge.endpoint, instructions_sha256=instructions_sha256(judge)) if judge else None


def used_guardrail(gate: GateRequest) -> UsedServer | None:
    """Return the guardrail of a gate, without its probes and faults. Returns None if the gate has none."""
    guardrail = gate.spec.guardrail
    return _used(guardrail.endpoint, protocol=guardrail.protocol) if guardrail else None


def used_safety_judge(gate: GateRequest) -> UsedServer | None:
    """Return the judge of a gate's safety set, without its probes and faults. Returns None if it has none."""
    endpoint = gate.spec.safety.scorer.endpoint if gate.spec.safety else None
    return _used(endpoint, instructions_sha256=sha256_text(INSTRUCTIONS)) if endpoint else None


def _used(endpoint: Endpoint, **asked: Any) -> UsedServer:
    return UsedServer(url=endpoint.url, model=endpoint.model, **asked)
