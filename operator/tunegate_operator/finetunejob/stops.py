"""Handle a stop of training: show the stop in status, and read a person's decision about it."""

from tunegate_api.contract.plan import StagePlan
from tunegate_api.contract.process import Role
from tunegate_api.judging.stages import StageAssessment
from tunegate_api.v1alpha2 import FineTuneJob
from tunegate_api.v1alpha2.evaluation_status import MAX_NAMED_CASES, PersonDecision
from tunegate_api.v1alpha2.finetunejob_status import MAX_DECISIONS, Failure, Stop
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.children.child_jobs import newest
from tunegate_operator.decisions import decision_about, parse_decision, size_problem
from tunegate_operator.finetunejob.build import gpus
from tunegate_operator.finetunejob.checkpoints import best_step
from tunegate_operator.finetunejob.cost import seconds_saved
from tunegate_operator.finetunejob.draft import Run
from tunegate_operator.names import CONTINUE_ANNOTATION, DISCARD_ANNOTATION


def record_decision(run: Run) -> bool:
    """Record a person's decision about the current stop, if there is one. Return whether the decision ended
    the job.

    The decision is an annotation that names the stop and a reason: ``{"stop": "<id>", "reason": "…"}``.
    """
    draft, stop = run.draft, run.draft.status.stop
    found = stop and decision_about(stop.id, run.observed.job.metadata.annotations)
    if stop is None or found is None:
        return False
    action, reason = found
    decision = PersonDecision(
        action=action, about=stop.id, reason=reason, stage=stop.stage, step=stop.step, time=draft.now
    )
    decisions = newest([*draft.status.decisions, decision], MAX_DECISIONS, key=lambda one: one.stage)
    draft.set(decisions=decisions)
    if action == "discard":
        draft.fail(
            Failure(
                reason=Reason.DISCARDED,
                message=f"discarded at step {stop.step}: {reason}",
                hint="Nothing is published. Change rows or parameters, and create the job again.",
            )
        )
        return True
    draft.set(stop=None)
    return False


def enter_stopped(run: Run, stop: Stop) -> None:
    """Enter the phase Stopped, in which the job waits for a person's decision. If there is an annotation that
    has no effect, the message says why."""
    problem = _ignored_annotation(run.observed.job, stop, run.draft.status.decisions)
    message = f"{problem}. {stop.message}" if problem else stop.message
    run.draft.enter(Phase.STOPPED, message, Reason(stop.reason))


def _ignored_annotation(job: FineTuneJob, stop: Stop, decisions: list[PersonDecision]) -> str:
    """Return why a continue or discard annotation is wrong; empty if neither is wrong. An annotation is
    not wrong if it names an earlier stop about which a person decided."""
    for annotation in (DISCARD_ANNOTATION, CONTINUE_ANNOTATION):
        text = job.metadata.annotations.get(annotation)
        if text is None:
            continue
        form = f'{{"stop": "{stop.id}", "reason": "…"}}'
        if problem := size_problem(annotation, text, form):
            return problem
        parsed = parse_decision(text)
        if parsed is None or "stop" not in parsed:
            return f"annotation {annotation} must be {form}"
        if parsed["stop"] == stop.id:
            return f"annotation {annotation} gives no reason"
        if parsed["stop"] not in [decision.about for decision in decisions]:
            return f"annotation {annotation} names stop {parsed['stop']}, but the current stop is {stop.id}"
    return ""


def stop_id(uid: str, stage: str, attempt: int, step: int) -> str:
    """Return the id of a stop. It has the first 5 characters of the job's uid, because a new job may be
    created with the annotations of an earlier one, and stop at the same step."""
    return f"{stage}-{attempt}-{step}-{uid[:5]}"


def is_continued(decisions: list[PersonDecision], uid: str, stage: str, attempt: int, step: int) -> bool:
    """Whether a person decided to continue after the stop of this attempt at ``step``."""
    stop = stop_id(uid, stage, attempt, step)
    return any((d.about, d.action) == (stop, "continue") for d in decisions)


def make_stop(run: Run, found: StageAssessment, stage: StagePlan, attempt: int) -> Stop:
    """Build the status of a stop."""
    assessment, saved = found.assessment, seconds_saved(run, stage, found.step)
    # Safety sets are compared with the starting model, not with the best checkpoint.
    best = best_step(run.request, run.results, stage.name) if found.safety else assessment.best_step
    return Stop(
        id=stop_id(run.observed.job.metadata.uid, stage.name, attempt, found.step),
        stage=stage.name,
        step=found.step,
        gate=found.gate,
        metric=found.metric,
        reason=_stop_reason(found),
        message=assessment.message,
        regressed_cases=list(assessment.regressed[:MAX_NAMED_CASES]),
        regressed_count=len(assessment.regressed),
        best_step=best or None,
        steps_saved=stage.total_steps - found.step,
        seconds_saved=saved,
        gpu_seconds_saved=None if saved is None else saved * gpus(run.observed.job, Role.TRAIN),
        time=run.draft.now,
    )


def _stop_reason(found: StageAssessment) -> Reason:
    if found.assessment.must_pass:
        return Reason.MUST_PASS_FAILED
    if found.safety:
        return Reason.SAFETY_REGRESSION
    return Reason.TASK_METRIC_REGRESSION if found.metric else Reason.GOLDEN_REGRESSION
