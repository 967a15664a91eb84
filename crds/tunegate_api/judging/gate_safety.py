"""Judge a model or checkpoint by the safety set of a gate."""

from dataclasses import dataclass

from tunegate_api.contract.bar import bar_of_safety_set
from tunegate_api.contract.request import GateRequest
from tunegate_api.contract.results import Evaluation, Results
from tunegate_api.verdict.outcomes import CaseSet
from tunegate_api.verdict.safety import SafetyVerdict, judge_safety, safety_set


@dataclass(frozen=True)
class GateSafety:
    """The results of a model and the base model on the safety set of a gate."""

    cases: CaseSet
    """The safety set. If another set was evaluated, this is an empty set, for which the verdict is Error."""
    outcomes: str
    """The outcome of each case, one letter per case."""
    base_outcomes: str | None
    """The same for the base model. None if it was not evaluated on this set."""
    verdict: SafetyVerdict
    grader: str | None = None
    """The type of the grader that decided the outcomes. None for phrases."""


def measured_safety(gate: GateRequest, results: Results) -> CaseSet:
    """Return the safety cases that were evaluated for ``gate``. If they are not the safety set of the gate,
    return an empty set, which cannot pass."""
    missing = CaseSet(sha256=gate.safety_sha256 or "", ids=[])
    reported = results.sets.get(safety_set(gate.name), missing)
    return reported if reported.sha256 == missing.sha256 else missing


def judge_gate_safety(
    gate: GateRequest, results: Results, evaluation: Evaluation, base: Evaluation | None
) -> GateSafety | None:
    """Judge the evaluation of a model, in comparison with that of the ``base`` model. Returns None if the
    gate has no safety set."""
    if gate.spec.safety is None:
        return None
    name, cases = safety_set(gate.name), measured_safety(gate, results)
    outcomes, base_outcomes = evaluation.outcomes.get(name, ""), base.outcomes.get(name) if base else None
    verdict = judge_safety(cases, outcomes, base_outcomes, bar_of_safety_set(gate.spec.safety))
    grader = gate.spec.safety_grader
    return GateSafety(cases, outcomes, base_outcomes, verdict, grader.type if grader else None)
