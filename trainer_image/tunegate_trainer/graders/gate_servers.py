"""The servers with which a gate grades outputs: a judge and a guardrail for golden cases, and a guardrail or
another judge for the safety set."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tunegate_api.cases.agreement import faulty_probes, own_probes
from tunegate_api.cases.golden import GoldenCase, counting, with_expectation
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.request import GateRequest
from tunegate_api.v1alpha2.graders import GateGrader
from tunegate_api.verdict.safety import SafetyKind
from tunegate_trainer.graders.agreement import CheckedServer, ProbedServer
from tunegate_trainer.graders.exact.safety import SAFETY_GRADER
from tunegate_trainer.graders.grader import Grader
from tunegate_trainer.graders.guardrail.guard import guard
from tunegate_trainer.graders.model.compliance import INSTRUCTIONS, compliance_judge
from tunegate_trainer.graders.model.gates import GateJudge, find_judge
from tunegate_trainer.graders.server_grader import (
    guardrail_grader,
    judge_grader,
    safety_guardrail_grader,
    safety_judge_grader,
)
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import UserError

JUDGE, GUARDRAIL = "judge", "guardrail"
"""The types of expectations that a server grades, and the names of these servers."""
_HINTS = {
    GUARDRAIL: "serve the guardrail with its own chat template, check its protocol and agreement set, "
    "or add its golden cases to advisory of the golden set",
    JUDGE: "give the safety set a grader whose model follows instructions, or another grader",
}


def golden_graders(context: Context, gate: GateRequest, cases: Sequence[GoldenCase]) -> dict[str, Grader]:
    """Return the graders with servers that ``cases`` need, by the type of their expectations. Raises
    :class:`UserError` if the gate does not name their server."""
    found: dict[str, Grader] = {}
    if with_expectation(JUDGE, cases):
        found[JUDGE] = judge_grader(gate_judge(context, gate))
    if with_expectation(GUARDRAIL, cases):
        found[GUARDRAIL] = guardrail_grader(gate_guard(context, gate))
    return found


def safety_graders(context: Context, gate: GateRequest) -> Mapping[SafetyKind, Grader]:
    """Return the grader of each kind of requests of a gate's safety set. A guardrail cannot recognize
    refusals of harmless requests, so phrases decide about these."""
    harmful: Grader = SAFETY_GRADER
    harmless: Grader = SAFETY_GRADER
    match gate.spec.safety_grader:
        case GateGrader(type="Guardrail"):
            harmful = safety_guardrail_grader(gate_guard(context, gate))
        case GateGrader():
            harmful = harmless = safety_judge_grader(safety_judge(context, gate))
    return {SafetyKind.UNSAFE: harmful, SafetyKind.HARMLESS: harmless}


def safety_settings(gate: GateRequest) -> list[Any]:
    """Return everything besides the cases that the scores on a safety set depend on. Empty for phrases."""
    grader = gate.spec.safety_grader
    if grader is None:
        return []
    instructions = sha256_text(INSTRUCTIONS) if grader.type == "Model" else None
    direct = [("direct", True)] if gate.required else []
    return [(grader.type, gate.spec.settings_of(grader), instructions), *direct]


def gate_judge(context: Context, gate: GateRequest) -> GateJudge:
    """Return the judge of a gate. Raises :class:`UserError` if it has none."""
    found = find_judge(context, gate)
    if found is None:
        raise _missing(gate, JUDGE)
    return found


def gate_guard(context: Context, gate: GateRequest) -> ProbedServer:
    """Return the guardrail of a gate, the same one in each call, so that it is probed once. Raises
    :class:`UserError` if the gate has none, or if its agreement set has faults."""
    guardrail = gate.spec.guardrail
    if guardrail is None:
        raise _missing(gate, GUARDRAIL)
    if problems := faulty_probes(gate.spec):
        raise UserError(
            f"EvalGate {gate.name}: {'; '.join(map(str, problems))}", "correct the cases of the agreement set"
        )
    make = partial(
        guard,
        context,
        guardrail,
        own_probes(gate.spec, guardrail),
        f"EvalGate {gate.name}: spec.graders[{guardrail.name}]",
        is_direct=gate.required,
        rates_refusals=gate.spec.safety_grader is guardrail,
    )
    return context.services.once(ProbedServer, f"guardrail of {gate.name}", make)


def safety_judge(context: Context, gate: GateRequest) -> ProbedServer:
    """Return the model that grades a gate's safety set, the same one in each call, so that it is probed
    once. Raises :class:`UserError` if it has none."""
    grader = gate.spec.safety_grader
    if grader is None:
        raise _missing(gate, JUDGE)
    make = partial(compliance_judge, context, gate, grader)
    return context.services.once(ProbedServer, f"judge of the safety set of {gate.name}", make)


def check_addresses(context: Context, golden: Mapping[str, Sequence[GoldenCase]]) -> None:
    """Check the addresses and API keys of the servers that golden cases and safety sets need. ``golden`` has
    the cases by the name of the gate. Sends nothing. Raises :class:`TrainerError` if an address or a key
    cannot be used."""
    for gate in context.request.gates:
        with context.tolerating(gate):
            for each in _needed(context, gate, golden.get(gate.name, ())):
                each.checked.server.open()


def check_probes(context: Context, golden: Mapping[str, Sequence[GoldenCase]]) -> list[str]:
    """Probe the servers that golden cases and safety sets need. ``golden`` has the cases by the name of the
    gate. Return a warning for each server that does not count, and that only advisory cases or dry runs need.

    Raises :class:`UserError` if a server does not count that other cases need, and :class:`TrainerError` if
    it cannot be used.
    """
    warnings: list[str] = []
    problems: list[str] = []
    hints: dict[str, None] = {}
    for gate in context.request.gates:
        needed: list[_Needed] = []
        with context.tolerating(gate):
            needed += _needed(context, gate, golden.get(gate.name, ()))
        for each in needed:
            problem = each.checked.problem() if isinstance(each.checked, ProbedServer) else None
            if problem is None:
                continue
            server = each.checked.server
            if each.is_counting and server.failure:
                raise server.failure
            (problems if each.is_counting else warnings).append(
                f"EvalGate {gate.name}: the {server.kind.name} {server.model}{each.of} does not count, so "
                f"cases that it must {server.kind.verb} are errors: {problem}"
            )
            if each.is_counting:
                hints[_HINTS[server.kind.name]] = None
    if problems:
        raise UserError("; ".join(problems), f"{'; '.join(hints)}; then create the job again")
    return warnings


@dataclass(frozen=True)
class _Needed:
    """A server that a gate needs."""

    checked: CheckedServer
    is_counting: bool
    """Whether the gate is no dry run, and cases that count need the server."""
    of: str = ""
    """What the server belongs to, in errors."""


def _needed(context: Context, gate: GateRequest, cases: Sequence[GoldenCase]) -> Iterator[_Needed]:
    """Yield the servers that golden cases or the safety set of a gate need. Raises :class:`UserError` if the
    gate does not name one."""

    def is_counting(cases: Sequence[GoldenCase]) -> bool:
        return not gate.spec.dry_run and bool(counting(gate.bar, cases))

    grader = gate.spec.safety_grader if gate in context.request.safety_gates else None
    of_safety = grader.type if grader else None
    if judged := with_expectation(JUDGE, cases):
        yield _Needed(gate_judge(context, gate), is_counting(judged))
    guarded = with_expectation(GUARDRAIL, cases)
    if guarded or of_safety == "Guardrail":
        counts = not gate.spec.dry_run if of_safety == "Guardrail" else is_counting(guarded)
        yield _Needed(gate_guard(context, gate), counts)
    if of_safety == "Model":
        yield _Needed(safety_judge(context, gate), not gate.spec.dry_run, " of the safety set")


def _missing(gate: GateRequest, expectation: str) -> UserError:
    return UserError(
        f"EvalGate {gate.name}: golden cases have the expectation {expectation}, but spec.graders has no "
        "grader for it",
        "add a grader to the gate",
    )
