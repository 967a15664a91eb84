"""By which golden sets the final model was selected among checkpoints, and by how much their rates are too
high. No I/O.

The best of several noisy rates is too high on average, see :mod:`tunegate_api.verdict.optimism`. Only the
cases that were used for the selection are affected: sealed cases and the test split never are.
"""

from tunegate_api.contract.request import Request
from tunegate_api.judging.judgement import GateJudgement, Judgement
from tunegate_api.verdict.groups import independent_among
from tunegate_api.verdict.optimism import optimism, optimism_text


def selecting_gates(request: Request) -> list[str]:
    """Return the final gates whose golden sets also selected the best checkpoint of the last stage."""
    selecting = {
        gate.name for gate in request.gates_of(request.spec.stages[-1].name) if not gate.spec.dry_run
    }
    return [gate.name for gate in request.final_gates if gate.name in selecting]


def selection_text(checkpoints: int, request: Request, judged: Judgement) -> str:
    """Return by how much the rates of an artifact are optimistic, because it was selected among
    ``checkpoints`` checkpoints; empty if there was nothing to select. ``judged`` is the judgement of the
    artifact."""
    names = selecting_gates(request)
    gates = [gate for gate in judged.gates if gate.name in names]
    if checkpoints < 2 or not gates:
        return ""
    points = " and ".join(optimism_text(_optimism(checkpoints, gate)) for gate in gates)
    is_sealed = any(gate.parts for gate in gates)
    rates = ("open " if is_sealed else "") + ("rate" if len(gates) == 1 else "rates")
    text = (
        f"best of {checkpoints} checkpoints by {' and '.join(gate.name for gate in gates)}: "
        f"{rates} up to {points} points too high"
    )
    return f"{text}; the sealed cases are not affected" if is_sealed else text


def _optimism(checkpoints: int, gate: GateJudgement) -> float:
    """Return by how many points the rate of the open cases of a gate is optimistic at most."""
    counted = gate.counted.counted
    passed, total, parts = gate.verdict.passed, gate.verdict.total, gate.parts
    if parts:
        passed, total = parts.open_passed, parts.open_total
    independent = independent_among(total, len(counted.ids), counted.groups)
    return optimism(checkpoints, passed, total, independent)
