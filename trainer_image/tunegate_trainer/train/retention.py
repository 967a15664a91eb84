"""Remove the checkpoints of a stage that are no longer needed."""

import logging

from tunegate_api.contract.request import Request
from tunegate_api.contract.results import Results
from tunegate_api.judging.stages import referenced_checkpoints
from tunegate_trainer.evaluate.evaluate import read_evaluation
from tunegate_trainer.process.context import Context
from tunegate_trainer.train.checkpoints import KEPT_STATES, CheckpointFolder
from tunegate_trainer.train.record import StageRecord

logger = logging.getLogger(__name__)


def remove_unneeded(context: Context, stage: str, checkpoints: CheckpointFolder, record: StageRecord) -> None:
    """Remove the weights of checkpoints that are no longer needed, but keep their evaluations.

    The decision depends only on files on disk, so the next attempt completes a removal that was interrupted.
    """
    if not checkpoints.writes:
        return
    results = _with_base(context, record)
    if results is None:
        logger.warning("the base model's evaluation is missing: keeping every checkpoint of stage %s", stage)
        return
    complete = checkpoints.complete_steps()
    needed = needed_steps(context.request, results, stage, record.accepted_step, complete)
    unneeded = [step for step in complete if step not in needed]
    checkpoints.drop(unneeded)
    if unneeded:
        logger.info("removed checkpoints that are no longer needed: %s", ", ".join(map(str, unneeded)))


def needed_steps(
    request: Request, results: Results, stage: str, accepted_step: int, complete: list[int]
) -> set[int]:
    """Return the steps of the checkpoints to keep. ``complete`` has the steps of all complete checkpoints,
    sorted.

    The ``KEPT_STATES`` newest checkpoints are kept, because training can resume from them. For each of them,
    the checkpoints that the verdict and the stop rule would refer to after resuming are kept too.
    """
    resumable = complete[-KEPT_STATES:]
    needed = set(resumable)
    for last in resumable:
        known = [e for e in results.evaluations if e.stage != stage or e.step <= last]
        until = results.model_copy(update={"evaluations": known})
        needed |= referenced_checkpoints(request, until, stage, accepted_step)
    return needed


def _with_base(context: Context, record: StageRecord) -> Results | None:
    """Return the results of the stage together with the base model's results. Returns None if the base
    model's results are missing."""
    first = context.plan.stages[0].name
    if first == record.stage:
        return record.results
    base = read_evaluation(context.workspace / context.paths.evaluation(first, 0))
    return record.results.merged(Results(evaluations=[base])) if base else None
