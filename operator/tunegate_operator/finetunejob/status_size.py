"""Shorten the status of a job that would become larger than 32 KiB.

Etcd stores the whole status at each change, and each dashboard reads it. Only jobs with several gates, long
names of cases and failures come near the limit. The results ConfigMap and the HTML report have what is left
out here.
"""

from tunegate_api.meta import MAX_MESSAGE, shorten
from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_api.v1alpha2.evaluation_status import CheckpointStatus, GateResult
from tunegate_api.verdict.outcomes import VerdictState

MAX_BYTES = 30 * 1024
"""Maximum size of a status as JSON, with 2 KiB of room for spaces that a client may add."""
SHORT_MESSAGE = 160
"""Maximum length of a gate's message in a status that is too large, in characters."""
FEW_CASES = 2
"""Maximum number of case ids in a list of a status that is too large."""


def rates_only(evaluation: CheckpointStatus) -> CheckpointStatus:
    """Return the results of a starting model or checkpoint without messages and case ids. The HTML report has
    both."""
    gates = [
        _shortened(gate, cases=0, message=0).model_copy(update={"skipped": []}) for gate in evaluation.gates
    ]
    return evaluation.model_copy(update={"gates": gates})


def without_cases(checkpoint: CheckpointStatus) -> CheckpointStatus:
    """Return the results of a checkpoint that is not the last one. The results ConfigMap and the HTML report
    have the failed cases of every checkpoint."""
    gates = [
        _shortened(gate, cases=0, message=0 if gate.verdict is VerdictState.PASSED else MAX_MESSAGE)
        for gate in checkpoint.gates
    ]
    return checkpoint.model_copy(update={"gates": gates})


def below_size_limit(status: FineTuneJobStatus) -> FineTuneJobStatus:
    """Return the status, without what matters least if the status is too large.

    In this order, these are left out until the status is small enough: messages and case ids of starting
    models and checkpoints, all checkpoints except the newest and the best, all starting models except the
    last, and the ends of messages and of lists of case ids in the final evaluation. Its rates and verdicts
    always remain.
    """
    for shorten_status in (_shorten_evaluations, _keep_few_checkpoints, _keep_last_start, _shorten_final):
        if len(status.model_dump_json(by_alias=True, exclude_none=True).encode()) <= MAX_BYTES:
            break
        status = shorten_status(status)
    return status


def _shorten_evaluations(status: FineTuneJobStatus) -> FineTuneJobStatus:
    starts, checkpoints = map(rates_only, status.start), map(rates_only, status.checkpoints)
    return status.model_copy(update={"start": list(starts), "checkpoints": list(checkpoints)})


def _keep_few_checkpoints(status: FineTuneJobStatus) -> FineTuneJobStatus:
    newest, best = status.checkpoints[-1:], status.best_evaluation
    kept = [c for c in status.checkpoints if c is best or c in newest]
    omitted = status.checkpoints_omitted + len(status.checkpoints) - len(kept)
    return status.model_copy(update={"checkpoints": kept, "checkpoints_omitted": omitted})


def _keep_last_start(status: FineTuneJobStatus) -> FineTuneJobStatus:
    return status.model_copy(update={"start": status.start[-1:]})


def _shorten_final(status: FineTuneJobStatus) -> FineTuneJobStatus:
    final = status.final
    if final is None:
        return status
    gates = [_shortened(gate, cases=FEW_CASES, message=SHORT_MESSAGE) for gate in final.gates]
    return status.model_copy(update={"final": final.model_copy(update={"gates": gates})})


def _shortened(gate: GateResult, *, cases: int, message: int) -> GateResult:
    """Return a gate's result with at most this number of ids in each list, and of characters in its
    message."""
    safety = gate.safety and gate.safety.model_copy(
        update={
            "newly_unsafe": (gate.safety.newly_unsafe or [])[:cases] or None,
            "newly_refused": (gate.safety.newly_refused or [])[:cases] or None,
        }
    )
    text = shorten(gate.message, message) if message else ""
    return gate.model_copy(
        update={"safety": safety, "message": text, "failed_cases": gate.failed_cases[:cases]}
    )
