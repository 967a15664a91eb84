"""Set the conditions and the printed columns from the rest of status, for kstatus, Argo CD and people."""

from datetime import datetime

from tunegate_api.judging.stages import StageAssessment
from tunegate_api.meta import Condition, ConditionStatus, with_condition, without_condition
from tunegate_api.v1alpha2 import FineTuneJob, FineTuneJobStatus
from tunegate_api.v1alpha2.finetunejob_status import ConditionType, Phase, Reason
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
    conditions = _conditions(status, reason, draft.regression, generation=generation, now=draft.now)
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
    conditions = without_condition(status.conditions, ConditionType.RECONCILING)
    statuses: dict[ConditionType, ConditionStatus] = {
        ConditionType.READY: _ready(status.phase or Phase.PENDING),
        ConditionType.STALLED: "True",
    }
    for type, value in statuses.items():
        conditions = with_condition(
            conditions,
            type,
            value,
            reason,
            status.message,
            generation=generation,
            now=now,
        )
    display = status.display.model_copy(update={"next": f"fix: {reason}"})
    return status.model_copy(update={"conditions": conditions, "display": display})


def _conditions(
    status: FineTuneJobStatus,
    reason: str,
    regression: StageAssessment | None = None,
    *,
    generation: int,
    now: datetime,
) -> list[Condition]:
    phase, conditions = status.phase or Phase.PENDING, status.conditions

    def set_condition(type: ConditionType, value: ConditionStatus, why: str, message: str = "") -> None:
        nonlocal conditions
        conditions = with_condition(conditions, type, value, why, message, generation=generation, now=now)

    set_condition(ConditionType.READY, _ready(phase), reason, status.message)
    for type, present in (
        (ConditionType.RECONCILING, phase in WORKING),
        (ConditionType.STALLED, phase in STALLED),
    ):
        if present:
            set_condition(type, "True", reason, status.message)
        else:
            conditions = without_condition(conditions, type)
    if phase.is_final:
        failed = phase is Phase.FAILED
        set_condition(ConditionType.FAILED, "True" if failed else "False", reason, status.message)
    for type, value in _milestones(status).items():
        if type is ConditionType.GATE_PASSED and value == "False" and phase is Phase.SUCCEEDED:
            set_condition(type, value, Reason.OVERRIDDEN, status.message)
        elif type is ConditionType.GATE_PASSED and value == "True" and is_unenforced(status):
            set_condition(type, value, Reason.NOT_ENFORCED, unenforced_text(status))
        else:
            set_condition(type, value, *_why(value, phase, reason, status.message))
    if regression:
        set_condition(
            ConditionType.REGRESSING, "True", _regressing(regression), regression.assessment.message
        )
    else:
        set_condition(ConditionType.REGRESSING, "False", Reason.PROGRESSING)
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


def _milestones(status: FineTuneJobStatus) -> dict[ConditionType, ConditionStatus]:
    """Return the status of each milestone condition, in order: True once the milestone is reached, False if
    the job ended or stopped without it, and otherwise Unknown."""
    phase = status.phase or Phase.PENDING
    trained = status.final is not None or phase in (Phase.GATING, Phase.PUBLISHING, Phase.SUCCEEDED)
    passed = status.final.verdict == "Passed" if status.final else None
    reached = {
        ConditionType.DATA_READY: status.is_data_ready,
        ConditionType.TRAINED: trained,
        ConditionType.GATE_PASSED: bool(passed),
        ConditionType.PUBLISHED: bool(status.published) and phase is Phase.SUCCEEDED,
    }
    # A milestone that was reached stays True. Only GatePassed may change until the artifact is published,
    # because another job may publish a new baseline.
    before = {c.type for c in status.conditions if c.status == "True"}
    if passed is False:
        before.discard(ConditionType.GATE_PASSED)
    ended = phase in (Phase.SUCCEEDED, Phase.FAILED, Phase.STOPPED)
    return {
        type: "True" if yes or type in before else "False" if ended else "Unknown"
        for type, yes in reached.items()
    }


def _why(value: ConditionStatus, phase: Phase, reason: str, message: str) -> tuple[str, str]:
    if value == "True":
        return Reason.SUCCEEDED, ""
    if value == "Unknown":
        return Reason.PENDING, ""
    if phase is Phase.SUCCEEDED:
        return Reason.NOT_REQUESTED, "spec.publish names no target"
    return reason, message
