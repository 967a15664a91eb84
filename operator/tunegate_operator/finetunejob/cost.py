"""Compute the cost of a job from its plan, reports and results: the memory that it needs, the time and memory
that it used, and the time that a stop saved. Pure."""

from fractions import Fraction

from tunegate_api.contract.plan import Plan, StagePlan
from tunegate_api.contract.report import Usage
from tunegate_api.contract.results import TRAINING_SUBJECTS, Subject
from tunegate_api.memory.fitting import by_part, needed, size_text
from tunegate_api.meta import exact
from tunegate_api.v1alpha2.cost import Cost, StageCost, StageMemory
from tunegate_api.v1alpha2.finetunejob import FineTuneJobSpec
from tunegate_operator.finetunejob.draft import Run


def memory_of(plan: Plan, spec: FineTuneJobSpec) -> list[StageMemory]:
    """Return the data role's estimate of the memory that each stage needs. Stages without an estimate are
    left out."""
    on_gpu = spec.resources.accelerator == "GPU"
    return [
        StageMemory(
            stage=stage.name,
            total=size_text(stage.memory.total),
            parts=by_part(stage.memory),
            needed=size_text(needed(stage.memory)) if on_gpu else None,
        )
        for stage in plan.stages
        if stage.memory
    ]


def show_cost(run: Run) -> None:
    """Show the cost of each stage and of the whole job."""
    known = _stage_costs(run)
    gate = sum(
        (_seconds(e.seconds) for e in run.results.evaluations if e.subject not in TRAINING_SUBJECTS),
        Fraction(),
    )
    stages = [known[stage.name] for stage in run.observed.job.spec.stages if stage.name in known]
    if not stages:
        return
    training = sum((exact(one.training_seconds) for one in stages), Fraction())
    evaluation = sum((exact(one.evaluation_seconds) for one in stages), gate)
    whole = training + evaluation
    run.draft.set(
        cost=Cost(
            training_seconds=_text(training),
            evaluation_seconds=_text(evaluation),
            evaluation_share=f"{float(evaluation / whole):.2f}" if whole else None,
            stages=stages,
        )
    )


def seconds_saved(run: Run, stage: StagePlan, step: int) -> int | None:
    """Return an estimate of how many seconds a stop at ``step`` saves in this stage.

    The estimate uses the time of the optimizer steps and evaluations so far, and does not include later
    stages. Returns None if no time was measured.
    """
    measured = _stage_costs(run).get(stage.name)
    if measured is None or not measured.steps:
        return None
    evaluations = [e.seconds for e in run.results.find(Subject.CHECKPOINT, stage.name)]
    each = _seconds(sum(evaluations) / len(evaluations)) if evaluations else Fraction()
    left = sum(planned > step for planned in stage.checkpoint_steps)
    return round((stage.total_steps - step) * exact(measured.training_seconds) / measured.steps + left * each)


def _stage_costs(run: Run) -> dict[str, StageCost]:
    """Return the cost of each stage: from its report, or from the previous status if the report is gone."""
    before = run.observed.job.status.cost
    known = {one.stage: one for one in before.stages} if before else {}
    return known | {
        report.stage: _stage_cost(report.stage, report.usage)
        for report in run.observed.reports
        if report.stage and report.usage
    }


def _stage_cost(stage: str, usage: Usage) -> StageCost:
    seconds = _seconds(usage.training_seconds)
    return StageCost(
        stage=stage,
        steps=usage.steps,
        tokens=usage.tokens,
        training_seconds=_text(seconds),
        evaluation_seconds=_text(_seconds(usage.evaluation_seconds)),
        tokens_per_second=f"{usage.tokens / usage.training_seconds:.0f}" if seconds else None,
        peak_gpu_memory=size_text(usage.peak_gpu_bytes) if usage.peak_gpu_bytes else None,
        peak_process_memory=size_text(usage.peak_process_bytes) if usage.peak_process_bytes else None,
    )


def _seconds(value: float) -> Fraction:
    return Fraction(value).limit_denominator(1000)


def _text(seconds: Fraction) -> str:
    return f"{float(seconds):.1f}"
