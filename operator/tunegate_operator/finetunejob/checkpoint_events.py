"""Compute the events about evaluated checkpoints from the difference of two statuses.

Only the first checkpoint in each twentieth of a stage has an event. So the number of events is bounded
without a counter, which a restart of the operator would lose.
"""

from collections.abc import Collection, Iterator

from tunegate_api.meta import cut
from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_api.v1alpha2.evaluation_status import CheckpointStatus, GateResult
from tunegate_api.verdict.outcomes import VerdictState
from tunegate_operator.engine.controller import Event

MAX_OF_A_STAGE = 20
"""Maximum number of events about the checkpoints of one stage."""
MAX_AT_ONCE = 5
"""Maximum number of events for one status change. After an outage, the newest checkpoints have events."""


def checkpoint_events(old: FineTuneJobStatus, new: FineTuneJobStatus) -> list[Event]:
    """Return the events about the checkpoints that ``new`` has and ``old`` has not, oldest first.

    An event is a warning if a gate could not measure the checkpoint, or if the checkpoint failed although one
    has passed. Until one has passed, a failed checkpoint is only a step on the way. Gates in a dry run cause
    no warnings.
    """
    steps = {stage.stage: stage.steps for stage in new.plan.stages} if new.plan else {}
    added = list(_first_of_each_part(old, new, steps))[-MAX_AT_ONCE:]
    bad = {VerdictState.ERROR} | ({VerdictState.FAILED} if new.best_checkpoint else set())
    return [_event(checkpoint, steps[checkpoint.stage], bad) for checkpoint in added]


def _first_of_each_part(
    old: FineTuneJobStatus, new: FineTuneJobStatus, steps: dict[str, int]
) -> Iterator[CheckpointStatus]:
    """Yield each new checkpoint that is the first in its twentieth of its stage. ``steps`` has the number of
    optimizer steps of each stage, in the order of the stages."""
    order = {stage: number for number, stage in enumerate(steps)}

    def part(checkpoint: CheckpointStatus) -> tuple[int, int]:
        total = max(1, steps[checkpoint.stage])
        twentieth = -(-checkpoint.step * MAX_OF_A_STAGE // total)  # rounded up
        return order[checkpoint.stage], min(twentieth, MAX_OF_A_STAGE)

    # The last checkpoint is always in status, so it shows which parts have been reached.
    reached = max((part(c) for c in old.checkpoints if c.stage in order), default=(-1, 0))
    for checkpoint in new.checkpoints:
        if checkpoint.stage in order and part(checkpoint) > reached:
            reached = part(checkpoint)
            yield checkpoint


def _event(checkpoint: CheckpointStatus, total_steps: int, bad: Collection[VerdictState]) -> Event:
    is_bad = any(gate.verdict in bad for gate in checkpoint.gates if not gate.dry_run)
    results = "; ".join(_result(gate) for gate in checkpoint.gates)
    return Event(
        "Warning" if is_bad else "Normal",
        "CheckpointEvaluated",
        cut(f"{checkpoint.stage} step {checkpoint.step} of {total_steps}: {results}"),
    )


def _result(gate: GateResult) -> str:
    text = f"{gate.name} {gate.verdict}" + (" (dry run)" if gate.dry_run else "")
    if gate.golden:
        text += f", golden {gate.golden.passed}/{gate.golden.total} = {gate.golden.rate}"
        if gate.golden.best_so_far:
            text += f", best so far {gate.golden.best_so_far}"
    if gate.safety:
        text += f", {gate.safety.text}"
    return text
