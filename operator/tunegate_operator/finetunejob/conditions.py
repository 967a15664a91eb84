"""Set the conditions and the printed columns from the rest of status, for kstatus, Argo CD and people."""

from datetime import datetime
from functools import partial

from tunegate_api.judging.stages import StageAssessment
from tunegate_api.meta import Condition, ConditionStatus, next_condition
from tunegate_api.v1alpha2 import FineTuneJob, FineTuneJobStatus
from tunegate_api.v1alpha2.reasons import ConditionType, Phase, Reason
from tunegate_api.verdict.outcomes import VerdictState
from tunegate_operator.finetunejob.columns import (
    columns,
    gate_text,
    is_unenforced,
    next_text,
    unenforced_text,
)
from tunegate_operator.finetunejob.draft import Draft

WORKING = (
    Phase.PENDING,
    Phase.VALIDATING,
    Phase.QUEUED,
    Phase.TRAINING,
    Phase.GATING,
    Phase.PUBLISHING,
)
"""Phases in which the operator or a pod is working."""
STALLED = (Phase.FAILED, Phase.STOPPED, Phase.AWAITING_REVIEW, Phase.AWAITING_APPROVAL)
"""Phases with the condition Stalled, for which kstatus reports Failed. A suspended job waits for a person,
too, but nothing is wrong with it."""


def with_conditions(job: FineTuneJob, draft: Draft) -> FineTuneJobStatus:
    """Return the draft's status with conditions and printed columns that match the status."""
    status, generation = draft.status, job.metadata.generation
    reason = _reason(status, draft)
    conditions = _conditions(
        status,
        reason,
        draft.regression,
        is_trained=draft.is_trained,
        generation=generation,
        now=draft.now,
    )
    stages = [stage.name for stage in job.spec.stages]
    return status.model_copy(update={"conditions": conditions, "display": columns(status, stages, reason)})


def with_refused_spec(status: FineTuneJobStatus, *, generation: int, now: datetime) -> FineTuneJobStatus:
    """Return the status of a job whose spec is refused, with new conditions. Of the printed columns, only
    those for the gate and the next action change."""
    reason = status.failure.reason if status.failure else Reason.INVALID_SPEC
    conditions = _conditions(status, reason, generation=generation, now=now)
    shown = {"gate": gate_text(status), "next": next_text(status.phase, reason)}
    display = status.display.model_copy(update=shown)
    return status.model_copy(update={"conditions": conditions, "display": display})


def with_hold(
    status: FineTuneJobStatus, reason: Reason, *, generation: int, now: datetime
) -> FineTuneJobStatus:
    """Return the status of a held job: Ready and Stalled have the reason, and Reconciling is removed. The
    other conditions do not change. The next action is to fix the reason."""
    condition = partial(
        next_condition,
        status.conditions,
        reason=reason,
        message=status.message,
        generation=generation,
        now=now,
    )
    ready = condition(ConditionType.READY, _ready(status.phase or Phase.PENDING))
    conditions = [ready, condition(ConditionType.STALLED, "True")]
    conditions += [c for c in status.conditions if c.type not in _OF_A_HOLD]
    display = status.display.model_copy(update={"next": f"fix: {reason}"})
    return status.model_copy(update={"conditions": conditions, "display": display})


_OF_A_HOLD = (ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED)
"""Types of the conditions that a hold changes."""


def _conditions(
    status: FineTuneJobStatus,
    reason: str,
    regression: StageAssessment | None = None,
    *,
    is_trained: bool = False,
    generation: int,
    now: datetime,
) -> list[Condition]:
    """Return all conditions. The earlier conditions in ``status`` only have the times of their
    transitions."""
    phase, conditions = status.phase or Phase.PENDING, list[Condition]()

    def add(type: ConditionType, value: ConditionStatus, why: str, message: str = "") -> None:
        before = status.conditions
        conditions.append(next_condition(before, type, value, why, message, generation=generation, now=now))

    add(ConditionType.READY, _ready(phase), reason, status.message)
    if phase in WORKING:
        add(ConditionType.RECONCILING, "True", reason, status.message)
    for type, value in _milestones(status, is_trained=is_trained).items():
        if type is ConditionType.GATE_PASSED and value == "False" and phase is Phase.SUCCEEDED:
            add(type, value, Reason.OVERRIDDEN, status.message)
        elif type is ConditionType.GATE_PASSED and value == "True" and is_unenforced(status):
            add(type, value, Reason.NOT_ENFORCED, unenforced_text(status))
        else:
            add(type, value, *_why(value, phase, reason, status.message))
    if regression:
        add(ConditionType.REGRESSING, "True", _regressing(regression), regression.assessment.message)
    else:
        add(ConditionType.REGRESSING, "False", Reason.PROGRESSING)
    if phase in STALLED:
        add(ConditionType.STALLED, "True", reason, status.message)
    if phase.is_final:
        failed = phase is Phase.FAILED
        add(ConditionType.FAILED, "True" if failed else "False", reason, status.message)
    return conditions


def _regressing(regression: StageAssessment) -> Reason:
    if regression.safety:
        return Reason.SAFETY_REGRESSING
    return Reason.TASK_METRIC_REGRESSING if regression.metric else Reason.REGRESSING


def _ready(phase: Phase) -> ConditionStatus:
    if phase is Phase.SUCCEEDED:
        return "True"
    return "Unknown" if phase is Phase.PENDING else "False"


def _reason(status: FineTuneJobStatus, draft: Draft) -> str:
    if status.failure:
        return status.failure.reason
    if status.phase is Phase.SUCCEEDED:
        return Reason.SUCCEEDED
    return draft.reason


def _milestones(status: FineTuneJobStatus, *, is_trained: bool) -> dict[ConditionType, ConditionStatus]:
    """Return the status of each milestone condition, in order: True once the milestone is reached, False if
    the job ended or stopped without it, and otherwise Unknown."""
    phase, final = status.phase or Phase.PENDING, status.final
    reached = {
        ConditionType.DATA_READY: status.is_data_ready,
        ConditionType.TRAINED: is_trained,
        ConditionType.GATE_PASSED: final is not None and final.verdict is VerdictState.PASSED,
        ConditionType.PUBLISHED: bool(status.published) and phase is Phase.SUCCEEDED,
    }
    ended = phase in (Phase.SUCCEEDED, Phase.FAILED, Phase.STOPPED)
    return {type: "True" if yes else "False" if ended else "Unknown" for type, yes in reached.items()}


def _why(value: ConditionStatus, phase: Phase, reason: str, message: str) -> tuple[str, str]:
    if value == "True":
        return Reason.SUCCEEDED, ""
    if value == "Unknown":
        return Reason.PENDING, ""
    if phase is Phase.SUCCEEDED:
        return Reason.NOT_REQUESTED, "spec.publish names no target"
    return reason, message
