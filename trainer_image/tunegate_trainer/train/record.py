"""The evaluations of one stage, on disk: what its stop rule and the next checkpoint are derived from."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from tunegate_api.contract import Evaluation, GateRequest, Results
from tunegate_api.judging.judgement import GateAssessment, assess_stage
from tunegate_api.judging.verdict import StopAction
from tunegate_api.plan import StagePlan
from tunegate_trainer.evaluate.evaluate import (
    SetResult,
    Weights,
    as_evaluation,
    as_results,
    read_evaluation,
    write_evaluation,
)
from tunegate_trainer.evaluate.sets import EvaluationSet
from tunegate_trainer.process.epoch import Writer
from tunegate_trainer.train.schedule import next_checkpoint


class StageRecord:
    """All evaluations of a stage, from its starting model (step 0) on, written by one writer.

    Processes that train together each have the same ones in memory, and so decide the same.
    """

    def __init__(
        self,
        folder: Path,
        path: Callable[[int], Path],
        *,
        writer: Writer,
        plan: StagePlan,
        gates: Sequence[GateRequest],
        sets: Sequence[EvaluationSet],
        accepted_step: int | None,
    ) -> None:
        """``folder`` is the stage's, ``path`` gives the folder of one step in it; ``sets`` are all that its
        evaluations measure."""
        self._folder = folder
        self._path = path
        self._writer = writer
        self.stage = plan.name
        self._planned = plan.checkpoint_steps
        self._sets = sets
        self.accepted_step = accepted_step or 0
        self._gates = gates
        found = (read_evaluation(entry) for entry in sorted(folder.glob("step-*")))
        self.evaluations: list[Evaluation] = [evaluation for evaluation in found if evaluation is not None]

    def cut_back(self, step: int) -> None:
        """Forget what was measured after ``step``: it is trained again."""
        self._writer.check()
        for entry in self._folder.glob("step-*") if self._writer.writes else ():
            if int(entry.name.removeprefix("step-")) > step:
                shutil.rmtree(entry)
        self.evaluations = [e for e in self.evaluations if e.step <= step]

    def add(
        self, weights: Weights, sets: Sequence[EvaluationSet], results: Sequence[SetResult]
    ) -> Evaluation:
        """Write an evaluation on ``sets``, and count it from now on.

        Raises :class:`Superseded` if another process became the writer, as it may in minutes of evaluation.
        """
        self._writer.check()
        evaluation = as_evaluation(weights, sets, results)
        if self._writer.writes:
            write_evaluation(self._path(weights.step), sets, results, evaluation)
        self.evaluations.append(evaluation)
        return evaluation

    def has(self, step: int) -> bool:
        return any(e.step == step for e in self.evaluations)

    @property
    def steps(self) -> list[int]:
        return [e.step for e in self.evaluations]

    @property
    def results(self) -> Results:
        """Everything measured so far, in the form that is reported."""
        return as_results(self._sets, self.evaluations)

    def assessment(self) -> GateAssessment | None:
        """What the strictest gate says after the last evaluation; None before the first checkpoint's.

        Derived from evaluations alone, so that a resumed run decides as one that was never interrupted.
        """
        return assess_stage(self._gates, self.results, self.stage, self.accepted_step)

    def next_step(self) -> int | None:
        """The step of the next checkpoint that is evaluated; None when all are, or training was stopped."""
        found = self.assessment()
        action = found.assessment.action if found else StopAction.CONTINUE
        if action is StopAction.STOP:
            return None
        return next_checkpoint(self._planned, self.evaluations[-1].step if self.evaluations else 0, action)
