"""The history of a stage: its checkpoints with their verdicts, the best checkpoint, and the reason of a
stop."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from tunegate_api.contract.process import Outcome, Role
from tunegate_api.contract.report import Usage
from tunegate_api.contract.results import Evaluation, Results, Subject
from tunegate_api.contract.workspace import golden_file, pairs_file, rows_file, safety_file
from tunegate_api.judging.judgement import (
    GateJudgement,
    TaskJudgement,
    best_checkpoint,
    judge_checkpoint,
)
from tunegate_api.judging.stages import StageAssessment, assess_stage
from tunegate_api.v1alpha2.finetunejob_status import Progress
from tunegate_api.verdict.outcomes import VerdictState
from tunegate_api.verdict.stop_rule import StopAction
from tunegate_trainer.report.collect import Collected, LossPoint
from tunegate_trainer.tokens.rows import PREFERENCE


@dataclass(frozen=True)
class Checkpoint:
    """One evaluated checkpoint. Step 0 is the starting model."""

    step: int
    loss: float | None
    gates: tuple[GateJudgement, ...]
    tasks: tuple[TaskJudgement, ...]
    """The results of the task metrics on the dev split."""
    verdict: VerdictState
    """The worst verdict of the checkpoint's gates, without dry runs. Passed if all gates are in a dry
    run."""


@dataclass(frozen=True, kw_only=True)
class StageStop(StageAssessment):
    """Why a gate or a task metric stopped a stage."""

    total_steps: int
    best_step: int
    """The step of the best checkpoint. It is 0 if the starting model was best. If a safety set stopped the
    stage, the step of the best checkpoint that passed, or 0 if none passed."""
    time: datetime
    seconds_per_step: float | None
    of_pairs: bool
    """Whether the metric that stopped the stage is measured on pairs."""

    @property
    def comparison(self) -> str:
        """The key of the comparison that shows the regressed cases."""
        if self.gate:
            file = safety_file if self.safety else golden_file
            return file(self.gate).removesuffix(".jsonl")
        return (pairs_file if self.of_pairs else rows_file)("dev").removesuffix(".jsonl")

    @property
    def steps_saved(self) -> int:
        return self.total_steps - self.step

    @property
    def seconds_saved(self) -> float | None:
        """The estimated time that the skipped steps would have taken. None if the speed is unknown."""
        return None if self.seconds_per_step is None else self.steps_saved * self.seconds_per_step


@dataclass(frozen=True)
class StageHistory:
    """The history of one stage up to now."""

    name: str
    method: str
    total_steps: int
    """The planned number of optimizer steps. If there is no plan, the number in the progress report, or the
    last trained step."""
    outcome: Outcome | None
    progress: Progress | None
    usage: Usage | None
    """The steps, tokens and time of all attempts of this stage."""
    losses: tuple[LossPoint, ...]
    checkpoints: tuple[Checkpoint, ...]
    best_step: int | None
    """The step of the best passing checkpoint, which the next stage or the final gate uses. None if none
    passes."""
    accepted_steps: tuple[int, ...]
    """The steps of the stops after which a person decided to continue the training."""
    stop: StageStop | None

    @property
    def last_step(self) -> int:
        """The last step that was trained."""
        return max(
            [self.progress.step if self.progress else 0]
            + [point.step for point in self.losses[-1:]]
            + [c.step for c in self.checkpoints[-1:]]
        )

    def checkpoint(self, step: int | None) -> Checkpoint | None:
        return next((c for c in self.checkpoints if c.step == step), None)


def stages_of(job: Collected) -> list[StageHistory]:
    """Return the stages that have started, in order."""
    return [stage for name in job.stage_names if (stage := _stage(job, name)) is not None]


def _stage(job: Collected, name: str) -> StageHistory | None:
    report = job.report_of(Role.TRAIN, name)
    evaluations = job.results.find(Subject.START, name) + job.results.find(Subject.CHECKPOINT, name)
    losses = job.losses[name]
    if report is None and not evaluations and not losses:
        return None
    checkpoints = tuple(_checkpoint(job, evaluation) for evaluation in evaluations)
    planned = {stage.name: stage.total_steps for stage in job.plan.stages} if job.plan else {}
    progress = report.progress if report else None
    trained = [p.step for p in losses[-1:]] + ([progress.total_steps] if progress else [])
    total_steps = planned.get(name) or max(trained, default=0)
    outcome = report.outcome if report else None
    stopped = outcome is Outcome.STOPPED
    best_step = _best_step(job, name)
    accepted, found = _replay_stop_rule(job, name, evaluations, stopped=stopped)
    stop = None
    if stopped and report is not None and found is not None:
        stop = StageStop(
            **vars(found),
            total_steps=total_steps,
            best_step=(best_step or 0) if found.safety else found.assessment.best_step,
            time=report.time,
            seconds_per_step=_seconds_per_step(losses),
            of_pairs=found.metric in [m.name for m in job.request.spec.task_metrics if m.type == PREFERENCE],
        )
    method = next(stage.method for stage in job.request.spec.stages if stage.name == name)
    return StageHistory(
        name=name,
        method=method,
        total_steps=total_steps,
        outcome=outcome,
        progress=progress,
        usage=report.usage if report else None,
        losses=losses,
        checkpoints=checkpoints,
        best_step=best_step,
        accepted_steps=accepted,
        stop=stop,
    )


def _checkpoint(job: Collected, evaluation: Evaluation) -> Checkpoint:
    judged = judge_checkpoint(job.request, job.results, evaluation)
    return Checkpoint(evaluation.step, evaluation.loss, judged.gates, judged.tasks, judged.gate_state)


def _best_step(job: Collected, stage: str) -> int | None:
    """Return the step of the checkpoint that the final gate evaluated, or would evaluate now. None if none
    passes."""
    final = job.results.find(Subject.FINAL, stage)
    best = best_checkpoint(job.request, job.results, stage)
    return final[0].step if final else best.step if best else None


def _replay_stop_rule(
    job: Collected, stage: str, evaluations: Sequence[Evaluation], *, stopped: bool
) -> tuple[tuple[int, ...], StageAssessment | None]:
    """Replay the stop rule over all checkpoints.

    Return the steps of the stops that a person overrode, and the last assessment. If training continued after
    a stop, a person overrode this stop. Later assessments then ignore all evaluations before the checkpoint
    of the stop.
    """
    accepted: list[int] = []
    start = 0
    found = None
    for end in range(1, len(evaluations) + 1):
        history = Results(sets=job.results.sets, evaluations=list(evaluations[start:end]))
        found = assess_stage(job.request, history, stage, 0)
        stops = found is not None and found.assessment.action is StopAction.STOP
        if stops and not (stopped and end == len(evaluations)):
            start = end - 1
            accepted.append(evaluations[start].step)
    return tuple(accepted), found


def _seconds_per_step(losses: Sequence[LossPoint]) -> float | None:
    """Return the median time of a step, which a slow first step hardly changes. None if no time is known."""
    seconds = [point.seconds for point in losses if point.seconds > 0]
    return median(seconds) if seconds else None
