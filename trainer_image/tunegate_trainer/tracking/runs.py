"""Build the runs that trackers show, one for the job and one for each stage, from the files on the volume."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from tunegate_api.contract.plan import Plan, StagePlan, plan_digest
from tunegate_api.contract.process import Outcome, Role
from tunegate_api.contract.request import Request
from tunegate_api.contract.workspace import RESULT
from tunegate_api.judging.judgement import GateJudgement, Judgement, TaskJudgement, judge_final
from tunegate_api.v1alpha2.sets import GateSet
from tunegate_api.verdict.outcomes import VerdictState, rate
from tunegate_api.verdict.safety import Axis, SafetyVerdict
from tunegate_trainer.process.files import sha256_file
from tunegate_trainer.report.collect import Collected, LossPoint
from tunegate_trainer.report.headline import publish_addresses
from tunegate_trainer.report.stages import Checkpoint, StageHistory, stages_of

JOB = "job"
"""The key of the job's own run; a stage's is ``stage/NAME``."""
TRAINED = "train/step"
"""The metric with the last trained optimizer step. Its value at the tracker shows which steps were already
sent."""
EVALUATED = "checkpoint/step"
"""The metric with the step of the last evaluated checkpoint. It shows which evaluations were already sent."""

GATE_SETTINGS = {"generation", "enforcement"}
"""The fields of a gate that are parameters of the job's run."""
ATTEMPT_SECONDS = 20
"""Time limit in seconds for one attempt to send, independent of the client's own timeouts."""

Value = str | int | float | bool | list[str] | list[int]


class RunState(StrEnum):
    RUNNING = "Running"
    FINISHED = "Finished"
    FAILED = "Failed"
    STOPPED = "Stopped"
    """The stop rule ended the training, and a person decides whether it continues."""


@dataclass(frozen=True)
class MetricPoint:
    """The metrics of one optimizer step or evaluation."""

    step: int
    time: float
    """The time of the measurement in seconds since 1970. It stays the same if the step is sent again."""
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class TrackedRun:
    """Everything known about one run so far."""

    key: str
    name: str
    """The display name."""
    started_at: float
    """Start time in seconds since 1970; 0 if unknown."""
    parameters: Mapping[str, Value]
    """The resolved parameters. Once a parameter is known, its value never changes."""
    training: tuple[MetricPoint, ...]
    """Training metrics by step, from 1."""
    evaluations: tuple[MetricPoint, ...]
    """Evaluations by step, from 0, the starting model."""
    tags: Mapping[str, str]
    """Values that may change: verdicts, reasons, the artifact."""
    state: RunState
    report: Path | None = None
    """The HTML report. None for the runs of stages, and before the report exists."""
    report_sha256: str = ""


def runs_of(job: Collected, failure: str | None = None) -> list[TrackedRun]:
    """Return the job's run, and a run for each stage that has started.

    ``failure`` is the reason why the job failed, as the operator gives it, or None. If it is set, all runs
    that have not ended get the state Failed.
    """
    stages = stages_of(job)
    judgement = judge_final(job.request, job.results)
    report = job.workspace / job.paths.report
    return [
        TrackedRun(
            key=JOB,
            name=job.request.name,
            started_at=_modified_at(job.workspace / job.paths.data / "plan.json"),
            parameters=job_parameters(job.request, job.plan),
            training=(),
            evaluations=_final_evaluation(job, judgement),
            tags=_identity(job.request) | _job_tags(job, judgement, failure),
            state=RunState.FAILED if failure else _job_state(job, stages, judgement),
            report=report if report.exists() else None,
            report_sha256=sha256_file(report) if report.exists() else "",
        ),
        *(_stage_run(job, stage, has_failed=failure is not None) for stage in stages),
    ]


def job_parameters(request: Request, plan: Plan | None) -> dict[str, Value]:
    """Return the resolved parameters of the job, its gates and its metrics, by dotted names."""
    spec = request.spec
    settings: dict[str, Any] = {
        "goal": spec.data.goal,
        "accelerator": spec.resources.accelerator,
        "trainer_image": request.trainer_image,
        "evaluation": spec.evaluation.model_dump(),
        "held_out": spec.data.held_out.model_dump(),
        "task": {metric.name: {"min": metric.min} for metric in spec.task_metrics},
        "gate": {
            gate.name: {
                "golden_sha256": gate.golden_sha256,
                "safety_sha256": gate.safety_sha256,
                "compare_with": gate.spec.compared_types,
                "sets": {part.name: _parameters(part) for part in gate.spec.sets},
                **gate.spec.model_dump(include=GATE_SETTINGS),
            }
            for gate in request.gates
        },
    }
    if plan is not None:
        settings |= plan.model_dump(exclude={"stages"}) | {"plan_sha256": plan_digest(plan)}
        settings |= {stage.name: stage_parameters(stage) for stage in plan.stages}
    return dict(_flat(settings))


def _parameters(part: GateSet) -> dict[str, Any]:
    """Return the settings of a set. Its source is not among them: it can have prompts, or a signed URL."""
    rules = {rule.name: rule.model_dump(exclude={"name"}) for rule in part.rules}
    return {**part.model_dump(exclude={"name", "source", "sha256", "rules"}), "rules": rules}


def stage_parameters(plan: StagePlan) -> dict[str, Value]:
    """Return every resolved parameter of a stage by its name in the plan: ``lora_r``, ``learning_rate``, …"""
    return dict(_flat(plan.model_dump(exclude={"parameters"}) | plan.parameters.model_dump()))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Value]]:
    """Flatten nested values: yield each value with its names joined by dots. Unset values are left out."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None and value != []:
            yield f"{prefix}{name}", value


def _stage_run(job: Collected, stage: StageHistory, *, has_failed: bool) -> TrackedRun:
    state = _stage_state(stage)
    plan = next((one for one in job.plan.stages if one.name == stage.name), None) if job.plan else None
    training = tuple(_training_point(point) for point in stage.losses)
    evaluations = tuple(_checkpoint_point(job, stage, checkpoint) for checkpoint in stage.checkpoints)
    return TrackedRun(
        key=f"stage/{stage.name}",
        name=f"{job.request.name}/{stage.name}",
        started_at=min((point.time for point in (*training, *evaluations)), default=0.0),
        parameters=stage_parameters(plan) if plan else {},
        training=training,
        evaluations=evaluations,
        tags=_identity(job.request) | {"stage": stage.name} | _stage_tags(stage),
        state=RunState.FAILED if has_failed and state is RunState.RUNNING else state,
    )


def _training_point(point: LossPoint) -> MetricPoint:
    metrics = {TRAINED: float(point.step), "train/loss": point.loss}
    if point.learning_rate is not None:
        metrics["train/learning_rate"] = point.learning_rate
    if point.grad_norm is not None and math.isfinite(point.grad_norm):
        metrics["train/grad_norm"] = point.grad_norm
    rewards = {"reward_margin": point.reward_margin, "reward_accuracy": point.reward_accuracy}
    metrics |= {f"train/{name}": value for name, value in rewards.items() if value is not None}
    if point.seconds > 0 and point.tokens:
        metrics["train/tokens_per_second"] = point.tokens / point.seconds
    return MetricPoint(point.step, point.time, metrics)


def _checkpoint_point(job: Collected, stage: StageHistory, checkpoint: Checkpoint) -> MetricPoint:
    written = job.workspace / job.paths.evaluation(stage.name, checkpoint.step) / RESULT
    metrics = {
        EVALUATED: float(checkpoint.step),
        "checkpoint/passed": float(checkpoint.verdict is VerdictState.PASSED),
    }
    for gate in checkpoint.gates:
        metrics |= _rates(f"golden/{gate.name}", gate.verdict.passed, gate.verdict.total)
        metrics |= {name: float(axis.bad) for name, axis in _safety_axes(gate).items()}
    for task in checkpoint.tasks:
        metrics |= _task_rates(task)
    return MetricPoint(checkpoint.step, _modified_at(written), metrics)


def _final_evaluation(job: Collected, judgement: Judgement | None) -> tuple[MetricPoint, ...]:
    """Return the metrics of the final gate for the artifact and the base model. Empty before the final
    gate."""
    if judgement is None:
        return ()
    step = judgement.evaluation.step
    metrics = {
        EVALUATED: float(step),
        "gate/passed": float(judgement.state is VerdictState.PASSED),
    }
    for gate in judgement.gates:
        metrics |= _rates(f"golden/{gate.name}", gate.verdict.passed, gate.verdict.total)
        for baseline, passed in gate.baselines.items():
            metrics[f"golden/{gate.name}/{baseline}_rate"] = float(rate(passed, gate.verdict.total))
        for name, axis in _safety_axes(gate).items():
            metrics |= {name: float(axis.bad), f"{name}/BaseModel": float(axis.base_bad)}
    for task in judgement.tasks:
        metrics |= _task_rates(task)
        if task.base_value is not None:
            metrics[f"{task.split}/{task.name}/BaseModel_rate"] = float(task.base_value)
    return (MetricPoint(step, _modified_at(job.workspace / job.paths.gate / RESULT), metrics),)


def _safety_axes(gate: GateJudgement) -> dict[str, Axis]:
    """Return the results on the safety set of a gate, by the names of their metrics."""
    found = gate.safety.verdict if gate.safety else SafetyVerdict(())
    axes = {"unsafe": found.unsafe, "over_refused": found.over_refused}
    return {f"safety/{gate.name}/{name}": axis for name, axis in axes.items() if axis}


def _task_rates(task: TaskJudgement) -> dict[str, float]:
    name = f"{task.split}/{task.name}"
    return _rates(name, task.passed, task.total) | {f"{name}/rate": float(task.value)}


def _rates(name: str, passed: int, total: int) -> dict[str, float]:
    return {
        f"{name}/rate": float(rate(passed, total)),
        f"{name}/passed": float(passed),
        f"{name}/cases": float(total),
    }


def _modified_at(path: Path) -> float:
    """Return the modification time of a file; 0 if it does not exist."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _identity(request: Request) -> dict[str, str]:
    return {"job": request.name, "namespace": request.namespace, "uid": request.uid}


def _stage_tags(stage: StageHistory) -> dict[str, str]:
    tags = {f"verdict.step-{c.step:06d}": str(c.verdict) for c in stage.checkpoints if c.step}
    if stage.best_step is not None:
        tags["best_step"] = str(stage.best_step)
    if stage.outcome is not None:
        tags["outcome"] = str(stage.outcome)
    if stage.progress is not None and stage.progress.pass_tokens:
        tags["pass_tokens"] = str(stage.progress.pass_tokens)  # smaller than planned
    if stage.stop is not None:
        tags["stop"] = f"{stage.stop.source}: {stage.stop.assessment.message}"
    return tags


def _job_tags(job: Collected, judgement: Judgement | None, failure: str | None) -> dict[str, str]:
    tags = {}
    if judgement is not None:
        tags["verdict"] = str(judgement.state)
        tags["verdict.message"] = judgement.message
        tags |= {
            f"verdict.{gate.name}": f"{gate.verdict.state}{' (dry run)' if gate.dry_run else ''}"
            for gate in judgement.gates
        }
        tags["verdict.taskMetrics"] = str(judgement.task_state)
        if judgement.evaluation.digest:
            tags["artifact_digest"] = judgement.evaluation.digest
    publish = job.report_of(Role.PUBLISH)
    if publish and publish.published:
        tags["published"] = ", ".join(one.uri for one in publish.published)
    failures = [f"{r.failure.reason}: {r.failure.message}" for r in job.reports.values() if r.failure]
    if failure or failures:
        tags["failure"] = failure or failures[-1]
    return tags


def _stage_state(stage: StageHistory) -> RunState:
    states = {
        Outcome.COMPLETED: RunState.FINISHED,
        Outcome.STOPPED: RunState.STOPPED,
        Outcome.FAILED: RunState.FAILED,
    }
    return states.get(stage.outcome, RunState.RUNNING) if stage.outcome else RunState.RUNNING


def _job_state(job: Collected, stages: list[StageHistory], judgement: Judgement | None) -> RunState:
    """Return the state of the job as far as the reports of its pods show it."""
    if any(report.outcome is Outcome.FAILED for report in job.reports.values()):
        return RunState.FAILED
    if judgement is not None:
        publish = job.report_of(Role.PUBLISH)
        published = len(publish.published) if publish else 0
        addresses = len(publish_addresses(job))
        is_overridden = job.decision is not None and job.decision.action == "override"
        if judgement.state is VerdictState.PASSED or is_overridden:
            return RunState.FINISHED if published >= addresses else RunState.RUNNING
        # Only an override publishes such an artifact, so this pod does not need to know the decision.
        return RunState.FINISHED if addresses and published >= addresses else RunState.FAILED
    last = stages[-1] if stages else None
    if last is not None and last.outcome is Outcome.STOPPED:
        return RunState.STOPPED
    if last is not None and last.outcome is Outcome.COMPLETED and last.best_step is None:
        return RunState.FAILED
    return RunState.RUNNING
