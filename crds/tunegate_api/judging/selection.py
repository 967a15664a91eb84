"""By which golden sets the final model was selected among checkpoints, and by how much their rates are too
high. No I/O.

The best of several noisy rates is too high on average, see :mod:`tunegate_api.verdict.optimism`. Only the
cases that were used for the selection are affected: sealed cases and the test split never are. A later stage
starts from the best checkpoint of the stage before, so its checkpoints keep a part of the luck of that
selection. The final model is one of as many possible models as the product of the numbers of checkpoints, so
its rate is at most as optimistic as the best of that many.
"""

from collections.abc import Mapping, Sequence
from math import prod

from tunegate_api.contract.request import Request
from tunegate_api.contract.results import Results, Subject
from tunegate_api.judging.judgement import GateJudgement, Judgement
from tunegate_api.verdict.groups import independent_among
from tunegate_api.verdict.optimism import optimism, optimism_text


def evaluated_checkpoints(request: Request, results: Results) -> dict[str, int]:
    """Return the number of evaluated checkpoints of each stage."""
    return {stage.name: len(results.find(Subject.CHECKPOINT, stage.name)) for stage in request.spec.stages}


def selection_text(checkpoints: Mapping[str, int], request: Request, judged: Judgement) -> str:
    """Return by how much the rates of an artifact are optimistic, because it was selected among the evaluated
    ``checkpoints`` of each stage; empty if there was nothing to select. ``judged`` is the judgement of the
    artifact."""
    selected: dict[tuple[int, ...], list[GateJudgement]] = {}
    for gate in judged.gates:
        if chosen_among := _selections(checkpoints, request, gate.name):
            selected.setdefault(chosen_among, []).append(gate)
    return "; ".join(_selected_text(chosen_among, gates) for chosen_among, gates in selected.items())


def _selections(checkpoints: Mapping[str, int], request: Request, gate: str) -> tuple[int, ...]:
    """Return among how many checkpoints an enforced gate selected the best one, for each stage in which it
    could."""
    return tuple(
        checkpoints.get(stage.name, 0)
        for stage in request.spec.stages
        if checkpoints.get(stage.name, 0) > 1
        and any(one.name == gate and not one.spec.dry_run for one in request.gates_of(stage.name))
    )


def _selected_text(chosen_among: tuple[int, ...], gates: Sequence[GateJudgement]) -> str:
    text = (
        f"best of {' and then of '.join(map(str, chosen_among))} checkpoints by "
        f"{' and '.join(gate.name for gate in gates)}: "
    )
    measurements, rates = prod(chosen_among), "rate" if len(gates) == 1 else "rates"
    of_open = " and ".join(optimism_text(_optimism(measurements, gate)) for gate in gates)
    if not any(gate.parts for gate in gates):
        return f"{text}{rates} up to {of_open} points too high on average"
    of_all = " and ".join(optimism_text(_optimism(measurements, gate) * _open_share(gate)) for gate in gates)
    return (
        f"{text}open {rates} up to {of_open} points too high on average, and {rates} of all cases, which "
        f"the verdict counts, up to {of_all}; the sealed cases are not affected"
    )


def _open_share(gate: GateJudgement) -> float:
    """Return the share of the cases that selected the model."""
    parts = gate.parts
    return parts.open_total / (parts.open_total + parts.sealed_total) if parts else 1.0


def _optimism(measurements: int, gate: GateJudgement) -> float:
    """Return an upper bound of the points by which the rate of the open cases of a gate is too high on
    average."""
    counted = gate.counted.counted
    passed, total, parts = gate.verdict.passed, gate.verdict.total, gate.parts
    if parts:
        passed, total = parts.open_passed, parts.open_total
    independent = independent_among(total, len(counted.ids), counted.groups)
    return optimism(measurements, passed, total, independent)
