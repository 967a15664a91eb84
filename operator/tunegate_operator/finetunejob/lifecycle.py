"""The state of a job in each of the seven lifecycle stages of fine-tuning (arXiv 2408.13296)."""

from collections.abc import Iterator
from datetime import datetime

from tunegate_api.contract.process import Role
from tunegate_api.meta import find_condition
from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_api.v1alpha2.finetunejob_status import LifecycleEntry
from tunegate_api.v1alpha2.reasons import ConditionType, LifecycleStage, LifecycleState, Phase, Reason
from tunegate_api.verdict.outcomes import VerdictState

_HALTED = {
    Phase.FAILED: LifecycleState.FAILED,
    Phase.STOPPED: LifecycleState.STOPPED,
    Phase.SUSPENDED: LifecycleState.SUSPENDED,
    Phase.PENDING: LifecycleState.PENDING,
    Phase.AWAITING_REVIEW: LifecycleState.AWAITING_REVIEW,
    Phase.AWAITING_APPROVAL: LifecycleState.AWAITING_APPROVAL,
}
"""The state of the current lifecycle stage in phases in which no pod runs."""
_FINISHED = (LifecycleState.SUCCEEDED, LifecycleState.FAILED)
_FROM_TRAINING = (
    Phase.TRAINING,
    Phase.GATING,
    Phase.AWAITING_APPROVAL,
    Phase.PUBLISHING,
    Phase.SUCCEEDED,
)


def with_lifecycle(status: FineTuneJobStatus, now: datetime, *, publishes: bool) -> FineTuneJobStatus:
    """Return the status with an entry for each lifecycle stage, in order.

    ``started`` and ``finished`` are the times at which the operator first observed that the stage had started
    or finished.
    """
    before = {entry.stage: entry for entry in status.lifecycle}
    entries = [
        _entry(before.get(stage), stage, state, now) for stage, state in _states(status, publishes=publishes)
    ]
    return status.model_copy(update={"lifecycle": entries})


def _states(status: FineTuneJobStatus, *, publishes: bool) -> Iterator[tuple[LifecycleStage, LifecycleState]]:
    """Yield each lifecycle stage with its state. Stages before the current one have succeeded, and later ones
    are pending or, if the job failed, not reached."""
    phase = status.phase or Phase.PENDING
    current = _HALTED.get(phase, LifecycleState.RUNNING)
    later = LifecycleState.NOT_REACHED if phase is Phase.FAILED else LifecycleState.PENDING
    planned = status.is_data_ready
    reached = planned  # whether all earlier stages are done
    for stage, done in (
        (LifecycleStage.DATA_PREPARATION, planned),
        (
            LifecycleStage.MODEL_INITIALIZATION,
            status.plan is not None or _has_bad_data(status),
        ),  # one Job does both
        (LifecycleStage.TRAINING_SETUP, phase in _FROM_TRAINING or _has_been_set_up(status)),
        (LifecycleStage.FINE_TUNING, _is_true(status, ConditionType.TRAINED)),
        (LifecycleStage.EVALUATION, _is_evaluated(status)),
    ):
        if done:
            yield stage, LifecycleState.SUCCEEDED
        elif reached or (not planned and stage in _OF_DATA):
            yield stage, current
        else:
            yield stage, later
        reached = planned and done
    is_published = _is_true(status, ConditionType.PUBLISHED)
    deployment = LifecycleState.SUCCEEDED if is_published else current if reached else later
    yield LifecycleStage.DEPLOYMENT, deployment if publishes else LifecycleState.NOT_REQUESTED
    yield LifecycleStage.MONITORING, LifecycleState.NOT_REQUESTED


_OF_DATA = (LifecycleStage.DATA_PREPARATION, LifecycleStage.MODEL_INITIALIZATION)


def _has_bad_data(status: FineTuneJobStatus) -> bool:
    """Whether the job failed because of its rows. The data pod reads rows only after it fetched the model, so
    the lifecycle stage of the model has then succeeded."""
    return status.failure is not None and status.failure.reason in (Reason.BAD_DATA, Reason.TOO_FEW_ROWS)


def _has_been_set_up(status: FineTuneJobStatus) -> bool:
    """Whether a training stage has evaluated its starting model or ended an attempt."""
    return bool(status.start) or any(attempt.role == Role.TRAIN for attempt in status.attempts)


def _is_evaluated(status: FineTuneJobStatus) -> bool:
    """Whether the final model passed, or a person overrode its verdict."""
    decision = status.verdict_decision
    passed = status.final is not None and status.final.verdict is VerdictState.PASSED
    return passed or (decision is not None and decision.action == "override")


def _is_true(status: FineTuneJobStatus, type: ConditionType) -> bool:
    condition = find_condition(status.conditions, type)
    return condition is not None and condition.status == "True"


def _entry(
    before: LifecycleEntry | None, stage: LifecycleStage, state: LifecycleState, now: datetime
) -> LifecycleEntry:
    if before is not None and before.state == state:
        return before
    has_started = state not in (
        LifecycleState.PENDING,
        LifecycleState.NOT_REACHED,
        LifecycleState.NOT_REQUESTED,
    )
    started = before.started if before else None
    return LifecycleEntry(
        stage=stage,
        state=state,
        started=started or (now if has_started else None),
        finished=now if state in _FINISHED else None,
    )
