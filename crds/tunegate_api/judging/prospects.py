"""Whether a checkpoint of a stage can pass at all, once its starting model was evaluated. No I/O."""

from collections.abc import Iterator

from tunegate_api.contract.request import GateRequest, Request
from tunegate_api.contract.results import Evaluation, Results, Subject, golden_set
from tunegate_api.judging.compared import base_evaluation
from tunegate_api.judging.gate_safety import measured_safety
from tunegate_api.judging.judgement import judge_checkpoint, measured_cases
from tunegate_api.verdict.outcomes import ERROR, PASS, VerdictState
from tunegate_api.verdict.safety import safety_set


def no_checkpoint_can_pass(request: Request, results: Results, stage: str) -> str:
    """Return why no checkpoint of a stage can pass the gates of the stage; empty if one may pass, or if the
    starting model is not evaluated yet.

    A checkpoint that passes every case and is safe on every request is judged as any checkpoint is. If even
    this one does not pass, the cause is in the gate or in the outcomes of the baselines, which training does
    not change. A gate for which a case of the base model could not be measured is left out, because its
    outputs are scored again.
    """
    start = next(iter(results.find(Subject.START, stage)), None)
    if start is None:
        return ""
    gates = [gate for gate in request.gates_of(stage) if _is_measured(gate, request, results)]
    outcomes = dict(item for gate in gates for item in _best_outcomes(gate, results))
    best = Evaluation(subject=Subject.CHECKPOINT, stage=stage, step=1, outcomes=outcomes)
    verdicts = {gate.name: gate.verdict for gate in judge_checkpoint(request, results, best).enforced}
    problems = [
        f"a checkpoint that passes every case of {gate.name} is {verdict.state}: {verdict.message}"
        for gate in gates
        if (verdict := verdicts.get(gate.name)) and verdict.state is not VerdictState.PASSED
    ]
    return "; ".join(problems)


def _best_outcomes(gate: GateRequest, results: Results) -> Iterator[tuple[str, str]]:
    yield golden_set(gate.name), PASS * len(measured_cases(gate, results).ids)
    if gate.safety_at_checkpoints:
        yield safety_set(gate.name), PASS * len(measured_safety(gate, results).ids)


def _is_measured(gate: GateRequest, request: Request, results: Results) -> bool:
    """Whether the base model was measured on all cases of the gate on which checkpoints are evaluated."""
    sets = {golden_set(gate.name): measured_cases(gate, results)}
    if gate.safety_at_checkpoints:
        sets[safety_set(gate.name)] = measured_safety(gate, results)
    for name, cases in sets.items():
        base = base_evaluation(request, results, name, Subject.CHECKPOINT)
        outcomes = base.outcomes[name] if base else ""
        if not cases.ids or len(outcomes) != len(cases.ids) or ERROR in outcomes:
            return False
    return True
