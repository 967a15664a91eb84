"""The evaluations of one stage on disk. The stop rule and the step of the next checkpoint depend only on
them."""

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from tunegate_api.contract.plan import StagePlan
from tunegate_api.contract.request import Request
from tunegate_api.contract.results import Evaluation, Results
from tunegate_api.judging.prospects import no_checkpoint_can_pass
from tunegate_api.judging.stages import StageAssessment, assess_stage
from tunegate_api.verdict.stop_rule import StopAction
from tunegate_trainer.distributed.ranks import Ranks
from tunegate_trainer.evaluate.evaluate import (
    SetResult,
    Weights,
    as_evaluation,
    as_results,
    outcomes_of,
    read_cases,
    read_evaluation,
    score_errors_again,
    write_evaluation,
)
from tunegate_trainer.evaluate.sets import EvaluationSet
from tunegate_trainer.process.epoch import Writer

logger = logging.getLogger(__name__)


class StageRecord:
    """All evaluations of a stage, beginning with its starting model (step 0). Only one process writes them.

    All ranks have the same evaluations in memory, so they make the same decisions.
    """

    def __init__(
        self,
        folder: Path,
        path: Callable[[int], Path],
        *,
        writer: Writer,
        plan: StagePlan,
        request: Request,
        sets: Sequence[EvaluationSet],
        accepted_step: int | None,
    ) -> None:
        """Read the evaluations in ``folder``, the folder of the stage.

        ``path`` returns the folder for the evaluation of a step. ``sets`` are all sets that the stage is
        evaluated on. ``accepted_step`` is the step of the stop that a person overrode, if any.
        """
        self._folder = folder
        self._path = path
        self._writer = writer
        self.stage = plan.name
        self._planned = plan.checkpoint_steps
        self._sets = sets
        self.accepted_step = accepted_step or 0
        self._request = request
        found = (read_evaluation(entry) for entry in sorted(folder.glob("step-*")))
        self.evaluations: list[Evaluation] = [evaluation for evaluation in found if evaluation is not None]

    def truncate_after(self, step: int) -> None:
        """Remove the evaluations of steps after ``step``, because these steps will be trained again."""
        self._writer.check()
        for entry in self._folder.glob("step-*") if self._writer.writes else ():
            if int(entry.name.removeprefix("step-")) > step:
                shutil.rmtree(entry)
        self.evaluations = [e for e in self.evaluations if e.step <= step]

    def add(
        self, weights: Weights, sets: Sequence[EvaluationSet], results: Sequence[SetResult]
    ) -> Evaluation:
        """Write an evaluation on ``sets`` to disk, and add it to the record.

        Raises :class:`Superseded` if another process became the writer during the evaluation.
        """
        self._writer.check()
        evaluation = as_evaluation(weights, sets, results)
        if self._writer.writes:
            write_evaluation(self._path(weights.step), sets, results, evaluation)
        self.evaluations.append(evaluation)
        return evaluation

    def score_start_again(self, ranks: Ranks) -> None:
        """Score the outputs of the starting model again that could not be scored, for example because a judge
        did not answer. Checkpoints are compared with it, so an error would stay until the stage ends.

        If an earlier attempt was killed after it had written the new scores of the cases, but not yet the
        evaluation, these scores are used."""
        start, folder = self.evaluations[0], self._path(0)
        results = ranks.broadcast(lambda: _scored_again(folder, self._sets, start))
        if start.step or not results:
            return
        self._writer.check()
        weights = Weights(start.subject, start.stage, start.step, start.digest, start.loss)
        found = as_evaluation(weights, self._sets, results).model_copy(update={"seconds": start.seconds})
        if self._writer.writes:
            write_evaluation(folder, self._sets, results, found)
        self.evaluations[0] = found

    def has(self, step: int) -> bool:
        return any(e.step == step for e in self.evaluations)

    @property
    def steps(self) -> list[int]:
        return [e.step for e in self.evaluations]

    @property
    def results(self) -> Results:
        """All evaluations so far, in the form that is reported."""
        return as_results(self._sets, self.evaluations)

    def assessment(self) -> StageAssessment | None:
        """Return the stop rule's assessment of the last evaluation, for the gate or task metric with the
        strictest result.

        Returns None if no checkpoint can be assessed yet, see
        :func:`~tunegate_api.judging.stages.assess_stage`. The assessment depends only on the evaluations,
        so a resumed run makes the same decisions.
        """
        return assess_stage(self._request, self.results, self.stage, self.accepted_step)

    def next_step(self) -> int | None:
        """Return the step of the next checkpoint to evaluate. Returns None after the last checkpoint, after a
        stop, and if no checkpoint can pass."""
        if problem := no_checkpoint_can_pass(self._request, self.results, self.stage):
            logger.warning("not trained further: %s", problem)
            return None
        found = self.assessment()
        action = found.assessment.action if found else StopAction.CONTINUE
        if action is StopAction.STOP:
            return None
        return next_checkpoint(self._planned, self.evaluations[-1].step if self.evaluations else 0, action)


def _scored_again(folder: Path, sets: Sequence[EvaluationSet], start: Evaluation) -> list[SetResult] | None:
    """Return the results in ``folder`` with their errors scored again; None if they are those of ``start``,
    and no outcome has changed."""
    found = [result for each in sets if (result := read_cases(folder / each.file))]
    if len(found) < len(sets):
        return None
    again = [score_errors_again(*each) for each in zip(sets, found, strict=True)]
    return again if again != found or outcomes_of(sets, again) != start.outcomes else None


def next_checkpoint(planned: Sequence[int], last: int, action: StopAction) -> int | None:
    """Return the step of the next checkpoint after ``last``. Returns None if no planned checkpoint is left.

    If ``action`` is CheckEarly, after a regression, the next checkpoint is halfway to the next planned one,
    rounded up.
    """
    following = next((step for step in sorted(planned) if step > last), None)
    if following is None or action is not StopAction.CHECK_EARLY:
        return following
    return last + (following - last + 1) // 2
