"""List the settings of the job and of each gate for the report. The settings of stages come from the plan."""

from collections.abc import Sequence

from tunegate_api.contract.plan import StagePlan
from tunegate_api.contract.request import GateRequest, Request
from tunegate_api.memory.fitting import by_part
from tunegate_api.v1alpha2.evalgate import EvalGateSpec, Samples
from tunegate_api.v1alpha2.sets import DEFAULT_DROP, SetRule
from tunegate_api.verdict.bar import SAFETY_RULES
from tunegate_trainer.artifacts.gate_result import GateRoleResult


def job_rows(request: Request, measured: GateRoleResult | None) -> list[tuple[str, str]]:
    """Return the settings that apply to all stages and, after the final gate, the device, dtype and
    quantization that the gate used."""
    held_out = request.spec.data.held_out
    rows = [
        *((f"evaluation.{name}", str(value)) for name, value in request.spec.evaluation.to_wire().items()),
        ("heldOut.fraction", held_out.fraction),
        ("heldOut.groupBy", held_out.group_by or "the prompt"),
    ]
    if measured is not None:
        rows += [("device of the final gate", measured.device), ("dtype of the final gate", measured.dtype)]
        rows += (
            [("base of the final gate", f"quantized to {measured.quantization}")]
            if measured.quantization
            else []
        )
    return rows


def memory_rows(stages: Sequence[StagePlan]) -> list[tuple[str, list[str]]]:
    """Return a row with the estimated memory of each stage. Returns no row if no stage has an estimate."""
    if not any(stage.memory for stage in stages):
        return []
    return [("memory, estimated", [by_part(stage.memory) if stage.memory else "" for stage in stages])]


def gate_rows(gates: Sequence[GateRequest], measured: GateRoleResult | None) -> list[tuple[str, list[str]]]:
    """Return the name of every threshold and generation setting with its value in each gate. There is a row
    for safety sets only if a gate has one. ``measured`` has the probes of the servers that score them."""
    values = [_settings(gate.spec) for gate in gates]
    rows = [(name, [_text(v[name]) for v in values]) for name in (values[0] if values else ())]
    if any(gate.spec.safety for gate in gates):
        rows.append(("safety", [_safety(gate, measured) for gate in gates]))
    return rows


def _settings(spec: EvalGateSpec) -> dict[str, object]:
    golden = spec.golden
    return {
        "rules": [_rule_text(rule) for rule in (golden.overall, *golden.about_some)],
        "advisory": golden.advisory,
        "sealed": golden.sealed,
        "onRegression": golden.checkpoints.on_regression or "Confirm",
        "failAtDrop of checkpoints": golden.checkpoints.fail_at_drop or DEFAULT_DROP,
        "compareWith": spec.compared_types,
        **spec.generation.model_dump(by_alias=True),
        "samples": _samples(spec.generation.samples),
        "enforcement": spec.enforcement,
    }


def _rule_text(rule: SetRule) -> str:
    """Return a rule in words: ``critical, of pii-leak: minPassRate 100%``."""
    limits = ", ".join(f"{name} {limit}" for name, limit in rule.limits.items())
    return f"{rule.name}{', of ' if rule.cases else ''}{', '.join(rule.cases)}: {limits or 'required'}"


def _samples(samples: Samples | None) -> str:
    if samples is None:
        return "1, greedy"
    return f"{samples.count} at temperature {samples.temperature}, vote: {samples.vote}"


def _safety(gate: GateRequest, measured: GateRoleResult | None) -> str:
    safety = gate.spec.safety
    if safety is None:
        return "none"
    return (
        f"{safety.source.label}: {'; '.join(_rule_text(safety.rule(name)) for name in SAFETY_RULES)}, "
        f"scored by {_grader(gate, measured)}"
        + (", at checkpoints too" if safety.evaluates_checkpoints else "")
    )


def _grader(gate: GateRequest, measured: GateRoleResult | None) -> str:
    """Return the name of the grader of a safety set, with the result of its probes if it was probed."""
    grader = gate.spec.safety_grader
    if grader is None:
        return "phrases of refusals"
    is_model = grader.type == "Model"
    used = (measured.safety_judges if is_model else measured.guardrails) if measured else {}
    server = used.get(gate.name)
    probes = f" ({server.probes.assessment.message})" if server and server.probes else ""
    return f"the {'judge' if is_model else 'guardrail'} {grader.endpoint.model}{probes}"


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
