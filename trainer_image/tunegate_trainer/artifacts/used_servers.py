"""The judge models and the guardrail that a gate names."""

from typing import Any

from tunegate_api.cases.case_lines import inline_text
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.request import GateRequest
from tunegate_api.v1alpha2.graders import GateGrader
from tunegate_trainer.artifacts.gate_result import UsedServer
from tunegate_trainer.graders.model.compliance import INSTRUCTIONS
from tunegate_trainer.graders.model.instructions import instructions_sha256


def used_judge(gate: GateRequest) -> UsedServer | None:
    """Return the judge of a gate, without its calibration and faults. Returns None if the gate has none."""
    judge = gate.spec.judge
    return _used(gate, judge, instructions_sha256=instructions_sha256(judge)) if judge else None


def used_guardrail(gate: GateRequest) -> UsedServer | None:
    """Return the guardrail of a gate, without its probes and faults. Returns None if the gate has none."""
    guardrail = gate.spec.guardrail
    return _used(gate, guardrail, protocol=guardrail.protocol) if guardrail else None


def used_safety_judge(gate: GateRequest) -> UsedServer | None:
    """Return the model that grades a gate's safety set, without its probes and faults. Returns None if it has
    none."""
    grader = gate.spec.safety_grader
    if grader is None or grader.type != "Model":
        return None
    return _used(gate, grader, instructions_sha256=sha256_text(INSTRUCTIONS))


def _used(gate: GateRequest, grader: GateGrader, **asked: Any) -> UsedServer:
    people = gate.spec.agreement_set(grader)
    return UsedServer(
        url=grader.endpoint.url,
        model=grader.endpoint.model,
        agreement_sha256=people and (people.sha256 or sha256_text(inline_text(people.source.inline or []))),
        **asked,
    )
