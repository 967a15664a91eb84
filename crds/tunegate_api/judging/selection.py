"""By which golden sets the final model was selected among checkpoints. No I/O.

The best of several noisy rates is too high on average: of ten equally good checkpoints with a true rate of
92.2 %, the best one on 50 cases reads 94.6 % on average. Only the sets that were used for the selection are
affected, and the test split never is.
"""

from collections.abc import Sequence

from tunegate_api.contract import Request


def selecting_gates(request: Request) -> list[str]:
    """Return the final gates whose golden sets also selected the best checkpoint of the last stage."""
    selecting = {
        gate.name for gate in request.gates_of(request.spec.stages[-1].name) if not gate.spec.dry_run
    }
    return [gate.name for gate in request.final_gates if gate.name in selecting]


def selection_text(checkpoints: int, gates: Sequence[str]) -> str:
    """Return that the rates of ``gates`` are optimistic, because they selected one of ``checkpoints``
    checkpoints; empty if there was nothing to select."""
    if checkpoints < 2 or not gates:
        return ""
    rates = "its golden rate is" if len(gates) == 1 else "these golden rates are"
    return f"best of {checkpoints} checkpoints by {' and '.join(gates)}, so {rates} optimistic"
