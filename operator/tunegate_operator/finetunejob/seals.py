"""Find gates of a job with which checkpoints would be evaluated on cases that another gate seals."""

from collections.abc import Mapping
from fractions import Fraction

from tunegate_api.contract.bar import checkpoint_bar
from tunegate_api.v1alpha2 import EvalGate
from tunegate_api.v1alpha2.finetunejob import FineTuneJobSpec
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.v1alpha2.reasons import Reason


def check_seals(
    spec: FineTuneJobSpec, gates: Mapping[str, EvalGate]
) -> tuple[dict[str, str], Failure | None]:
    """Compare the ready ``gates`` of a job that have the same golden set, and of which one seals cases.

    Checkpoints must not be evaluated with a gate that has the same golden set, but does not seal the same
    cases. Return the gates in a dry run that must be left out for this reason, by name with the reason, and a
    failure if none of two such gates is in a dry run.
    """
    left_out: dict[str, str] = {}
    at_checkpoints = {gate.name for stage in spec.stages for gate in stage.gates or spec.gates}
    for name in sorted(at_checkpoints & gates.keys()):
        for other, sealing in sorted(gates.items()):
            gate, names = gates[name], {name, other}
            is_shown = sealing.spec.golden.sealed and _sealed(gate) != _sealed(sealing)
            if gate.status.digest != sealing.status.digest or not is_shown or names & left_out.keys():
                continue
            message = (
                f"EvalGates {' and '.join(sorted(names))} have the same golden set, but do not seal the same "
                "cases, so checkpoints would be evaluated on cases that one of them seals"
            )
            if dry_runs := [each for each in (name, other) if gates[each].spec.dry_run]:
                left_out[dry_runs[0]] = f"EvalGate {dry_runs[0]} is in a dry run and was left out: {message}"
                continue
            hint = "Name EvalGates with the same sealed share and critical cases, or only one of them."
            return left_out, Failure(reason=Reason.INVALID_SPEC, message=message, hint=hint)
    return left_out, None


def _sealed(gate: EvalGate) -> tuple[Fraction | None, frozenset[str]]:
    """Return what decides which cases of a golden set are sealed."""
    bar = checkpoint_bar(gate.spec.golden)
    return bar.sealed, frozenset(bar.must_pass)
