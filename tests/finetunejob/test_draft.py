"""The time at which an agenda requeues a decision, and the status changes that a draft accepts."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_type_hints

import pytest

from tunegate_api.meta import MAX_MESSAGE
from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.engine.controller import Agenda
from tunegate_operator.finetunejob.draft import Draft, StatusChanges

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LONG = "x" * (2 * MAX_MESSAGE)


def draft() -> Draft:
    return Draft(FineTuneJobStatus(), Agenda(NOW))


@pytest.mark.parametrize("seconds", [(30, 10), (10, 30), (10, 10)])
def test_requeue_after_is_the_earliest_requested_time(seconds):
    made = Agenda(NOW)
    for s in seconds:
        made.look_again_at(NOW + timedelta(seconds=s))
    assert made.requeue_after == 10


def test_requested_time_in_the_past_requeues_at_once():
    made = Agenda(NOW)
    made.look_again_at(NOW - timedelta(seconds=5))
    assert made.requeue_after == 0


def test_long_message_is_cut_in_every_field():
    entered, waiting, failed = draft(), draft(), draft()
    entered.enter(Phase.TRAINING, LONG)
    waiting.wait(Phase.PENDING, Reason.GATE_NOT_FOUND, LONG, 60)
    failed.fail(Failure(reason=Reason.KILLED, message=LONG))
    for made in (entered, waiting, failed):
        assert len(made.status.message) == MAX_MESSAGE
    assert failed.status.failure is not None
    assert len(failed.status.failure.message) == MAX_MESSAGE


def test_misspelt_field_of_status_is_refused() -> None:
    made = draft()
    with pytest.raises(TypeError, match="no field mesage"):
        made.set(mesage="waiting")  # type: ignore[call-arg]
    assert made.status == FineTuneJobStatus()


@pytest.mark.parametrize(
    "changes",
    [
        {"completion_time": "soon"},
        {"phase": "Dancing"},
        {"attempts": [{"role": "train"}]},
        {"gpu_seconds": None},
    ],
)
def test_status_value_of_a_wrong_type_is_refused(changes: dict[str, Any]) -> None:
    made = draft()
    with pytest.raises(ValueError, match="validation error"):
        made.set(**changes)
    assert made.status == FineTuneJobStatus()


def test_status_changes_have_the_field_types_of_finetunejob_status() -> None:
    fields = get_type_hints(FineTuneJobStatus)
    assert {name: fields[name] for name in get_type_hints(StatusChanges)} == get_type_hints(StatusChanges)
