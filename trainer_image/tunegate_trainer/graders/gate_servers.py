"""The servers with which a gate grades outputs: a judge and a guardrail for golden cases, and a guardrail or
another judge for the safety set."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tunegate_api.cases.golden import GoldenCase, counting, with_expectation
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.request import GateRequest
from tunegate_api.v1alpha1.safety import SafetyScorer
from tunegate_api.verdict.safety import SafetyKind
from tunegate_trainer.graders.agreement import CheckedServer, ProbedServer
from tunegate_trainer.graders.exact.safety import SAFETY_GRADER
from tunegate_trainer.graders.grader import Grader
from tunegate_trainer.graders.guardrail.guard import guard
from tunegate_trainer.graders.model.compliance import INSTRUCTIONS, compliance_judge
from tunegate_trainer.graders.model.gates import GateJudge
from tunegate_trainer.graders.server_grader import (
    guardrail_grader,
    judge_grader,
    safety_guardrail_grader,
    safety_judge_grader,
)
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import UserError

JUDGE, GUARDRAIL = "judge", "guardrail"
"""The types of expectations and of scorers, and the fields of the gate with their servers."""
_HINTS = {
    GUARDRAIL: "serve the guardrail with its own chat template, check protocol and probes in spec.guardrail, "
    "or add its golden cases to advisory of the golden set",
    JUDGE: "give the safety set a model that follows instructions as scorer.endpoint, or another scorer",
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


def safety_graders(context: Context, gate: GateRequest, scorer: SafetyScorer) -> Mapping[SafetyKind, Grader]:
    """Return the grader of each kind of requests of a gate's safety set. A guardrail cannot recognize
    refusals of harmless requests, so phrases decide about these. Raises :class:`UserError` if the gate does
    not name its server."""
    harmful: Grader = SAFETY_GRADER
    if scorer.type == GUARDRAIL:
        harmful = safety_guardrail_grader(gate_guard(context, gate))
    elif scorer.type == JUDGE:
        harmful = safety_judge_grader(safety_judge(context, gate))
    harmless = harmful if scorer.type == JUDGE else SAFETY_GRADER
    return {SafetyKind.UNSAFE: harmful, SafetyKind.HARMLESS: harmless}


def scorer_settings(gate: GateRequest, scorer: SafetyScorer) -> list[Any]:
    """Return everything besides the cases that the scores on a safety set depend on. Empty for phrases."""
    direct = [("direct", True)] if gate.required else []
    if scorer.type == GUARDRAIL:
        return [(GUARDRAIL, gate.spec.guardrail and gate.spec.guardrail.to_wire()), *direct]
    if scorer.type == JUDGE:
        return [(JUDGE, scorer.to_wire(), sha256_text(INSTRUCTIONS)), *direct]
    return []


def gate_judge(context: Context, gate: GateRequest) -> GateJudge:
    """Return the judge of a gate. Raises :class:`UserError` if it has none."""
    if gate.spec.judge is None:
        raise _missing(gate, JUDGE)
    return GateJudge(context, gate, gate.spec.judge)


def gate_guard(context: Context, gate: GateRequest) -> ProbedServer:
    """Return the guardrail of a gate, the same one in each call, so that it is probed once. Raises
    :class:`UserError` if the gate has none."""
    if gate.spec.guardrail is None:
        raise _missing(gate, GUARDRAIL)
    make = partial(
        guard,
        context,
        gate.spec.guardrail,
        f"EvalGate {gate.name}: spec.guardrail",
        is_direct=gate.required,
        rates_refusals=_rates_safety_set(gate),
    )
    return context.services.once(ProbedServer, f"guardrail of {gate.name}", make)


def safety_judge(context: Context, gate: GateRequest) -> ProbedServer:
    """Return the judge of a gate's safety set, the same one in each call, so that it is probed once. Raises
    :class:`UserError` if it has none."""
    endpoint = gate.spec.safety.scorer.endpoint if gate.spec.safety else None
    if endpoint is None:
        raise UserError(
            f"EvalGate {gate.name}: scorer.endpoint of the safety set is missing",
            "add endpoint to the scorer, or leave its type out",
        )
    make = partial(compliance_judge, context, gate, endpoint)
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

    of_safety = gate.spec.safety.scorer.type if gate.spec.safety else None
    if gate not in context.request.safety_gates:
        of_safety = None
    if judged := with_expectation(JUDGE, cases):
        yield _Needed(gate_judge(context, gate), is_counting(judged))
    guarded = with_expectation(GUARDRAIL, cases)
    if guarded or of_safety == GUARDRAIL:
        counts = not gate.spec.dry_run if of_safety == GUARDRAIL else is_counting(guarded)
        yield _Needed(gate_guard(context, gate), counts)
    if of_safety == JUDGE:
        yield _Needed(safety_judge(context, gate), not gate.spec.dry_run, " of the safety set")


def _rates_safety_set(gate: GateRequest) -> bool:
    """Return whether the guardrail of a gate is the scorer of its safety set."""
    return gate.spec.safety is not None and gate.spec.safety.scorer.type == GUARDRAIL


def _missing(gate: GateRequest, field: str) -> UserError:
    return UserError(
        f"EvalGate {gate.name}: spec.{field} is missing, but golden cases have the expectation {field}",
        f"add {field} to the gate",
    )
