"""The scorers judge and guardrail, which ask a server that the gate names.

A scorer asks nothing until it scores outputs. If the server does not answer, or its scores do not count, all
its outputs are errors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from tunegate_api.cases.expectations import leaves
from tunegate_api.cases.golden import GoldenCase, counting, with_expectation
from tunegate_api.cases.safety_cases import SafetyCase
from tunegate_api.contract.request import GateRequest
from tunegate_api.judging.review_sample import ReviewRow
from tunegate_api.messages import Message
from tunegate_api.verdict.outcomes import ERROR, FAIL, PASS
from tunegate_trainer.graders.grader import MAX_EXPLANATION, Grader, Sample, Score
from tunegate_trainer.graders.guardrail.guard import Guard
from tunegate_trainer.graders.guardrail.protocols import Exchange, Rated, Rating
from tunegate_trainer.graders.model.answer import JudgeAnswer
from tunegate_trainer.graders.model.gates import GateJudge
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.tokens.rows import Row

JUDGE, GUARDRAIL = "judge", "guardrail"
"""The types of expectations, and the fields of the gate with their servers."""


def server_scorers(context: Context, gate: GateRequest, cases: Sequence[GoldenCase]) -> dict[str, Grader]:
    """Return the scorers that ``cases`` need, by the type of their expectations. Raises :class:`UserError` if
    the gate does not name their server."""
    needed = {leaf.type for case in cases for leaf in leaves(case.expect)}
    found: dict[str, Grader] = {}
    if JUDGE in needed:
        found[JUDGE] = JudgeScorer(gate_judge(context, gate))
    if GUARDRAIL in needed:
        found[GUARDRAIL] = GuardrailScorer(gate_guard(context, gate))
    return found


def gate_judge(context: Context, gate: GateRequest) -> GateJudge:
    """Return the judge of a gate. Raises :class:`UserError` if it has none."""
    if gate.spec.judge is None:
        raise _missing(gate, JUDGE)
    return GateJudge(context, gate, gate.spec.judge)


def gate_guard(context: Context, gate: GateRequest) -> Guard:
    """Return the guardrail of a gate, the same one in each call, so that it is probed once. Raises
    :class:`UserError` if the gate has none."""
    if gate.spec.guardrail is None:
        raise _missing(gate, GUARDRAIL)
    name = f"EvalGate {gate.name}: spec.guardrail"
    make = partial(
        Guard,
        context,
        gate.spec.guardrail,
        name,
        is_direct=gate.required,
        rates_refusals=rates_safety_set(gate),
    )
    return context.services.once(Guard, gate.name, make)


def rates_safety_set(gate: GateRequest) -> bool:
    """Return whether the guardrail of a gate is the scorer of its safety set."""
    return gate.spec.safety is not None and gate.spec.safety.scorer.type == GUARDRAIL


def check_guardrails(context: Context, golden: Mapping[str, Sequence[GoldenCase]]) -> list[str]:
    """Probe the guardrails that golden cases or safety sets need. ``golden`` has the cases by the name of the
    gate. Return a warning for each guardrail that does not count, and that only advisory cases or dry runs
    need.

    Raises :class:`UserError` if a guardrail does not count that other cases need, and :class:`TrainerError`
    if its server cannot be used.
    """
    warnings: list[str] = []
    problems: list[str] = []
    for gate in context.request.gates:
        cases = with_expectation(GUARDRAIL, golden.get(gate.name, ()))
        of_safety = gate in context.request.safety_gates and rates_safety_set(gate)
        guard = None
        if cases or of_safety:
            with context.tolerating(gate):
                guard = gate_guard(context, gate)
        problem = guard.problem() if guard else None
        if guard is None or problem is None:
            continue
        is_counting = of_safety or bool(counting(gate.bar, cases))
        is_needed = is_counting and not gate.spec.dry_run
        if is_needed and guard.failure:
            raise guard.failure
        (problems if is_needed else warnings).append(
            f"EvalGate {gate.name}: the guardrail {guard.guardrail.endpoint.model} does not count, so cases "
            f"that it must rate are errors: {problem}"
        )
    if problems:
        raise UserError(
            "; ".join(problems),
            "serve the guardrail with its own chat template, check protocol and probes in spec.guardrail, "
            "or add its golden cases to thresholds.advisory; then create the job again",
        )
    return warnings


def _missing(gate: GateRequest, field: str) -> UserError:
    return UserError(
        f"EvalGate {gate.name}: spec.{field} is missing, but golden cases have the expectation {field}",
        f"add {field} to the gate",
    )


@dataclass(frozen=True, eq=False)
class JudgeScorer:
    """Passes outputs that a calibrated judge model scores as good. The reference of a sample is the rubric of
    its case, or None."""

    judge: GateJudge

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        model = self.judge.judge.endpoint.model
        if problem := self.judge.problem:
            return [error_score(f"the judge {model} does not count: {problem}")] * len(samples)
        found = self.judge.score([(row_of(sample), sample.reference) for sample in samples])
        return [_judged(model, each) for each in found]


def row_of(sample: Sample) -> ReviewRow:
    case = sample.case
    return ReviewRow(
        row=case.id,
        prompt=_turns(case),
        completion=_encodable(sample.output),
        tools=None if isinstance(case, SafetyCase) else case.tools,
    )


def _turns(case: GoldenCase | SafetyCase | Row) -> Sequence[Message]:
    return case.prompt if isinstance(case, Row) else case.turns


def _judged(model: str, found: JudgeAnswer | str) -> Score:
    if isinstance(found, str):
        return error_score(f"the judge {model} gave no score: {found}")
    if found.good:
        return Score(PASS)
    return Score(FAIL, f"the judge {model} scored it as bad: {found.reason or 'no reason'}")


@dataclass(frozen=True, eq=False)
class GuardrailScorer:
    """Passes outputs to which the guardrail gives the expected rating, which is the reference of a sample."""

    guard: Guard

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        model = self.guard.guardrail.endpoint.model
        if problem := self.guard.problem():
            return [error_score(f"the guardrail {model} does not count: {problem}")] * len(samples)
        found = self.guard.rate([exchange_of(sample) for sample in samples])
        return [_rated(model, sample.reference, each) for sample, each in zip(samples, found, strict=True)]


def exchange_of(sample: Sample) -> Exchange:
    """Return the last user message of the case and the output. Templates of guardrails refuse system messages
    and tool results."""
    turns = _turns(sample.case)
    asked = next((turn.content for turn in reversed(turns) if turn.role == "user"), turns[-1].content)
    return Exchange(asked, _encodable(sample.output))


def _rated(model: str, expected: str, found: Rating | str) -> Score:
    if isinstance(found, str):
        return error_score(f"the guardrail {model} gave no rating: {found}")
    if found.rated == expected:
        return Score(PASS)
    reason = f" ({found.reason})" if found.reason else ""
    text = f"the guardrail {model} rated it as {found.rated}{reason}, expected {expected}"
    return Score(FAIL, text, undecided=found.rated is Rated.CONTROVERSIAL)


def error_score(text: str) -> Score:
    return Score(ERROR, text[:MAX_EXPLANATION])


def _encodable(text: str) -> str:
    """Return a text in which halves of surrogate pairs are replaced, because requests are UTF-8."""
    return text.encode("utf-8", "replace").decode()
