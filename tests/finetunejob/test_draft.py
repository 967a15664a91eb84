"""When a decision wants to be made again, and how long a message in status is."""

from datetime import UTC, datetime, timedelta

import pytest

from tunegate_api.meta import MAX_MESSAGE
from tunegate_api.v1alpha1 import FineTuneJobStatus
from tunegate_api.v1alpha1.finetunejob_status import Failure, Phase, Reason
from tunegate_operator.engine.controller import Agenda
from tunegate_operator.finetunejob.draft import Draft

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LONG = "x" * (2 * MAX_MESSAGE)


def draft() -> Draft:
    return Draft(FineTuneJobStatus(), Agenda(NOW))


@pytest.mark.parametrize("seconds", [(30, 10), (10, 30), (10, 10)])
def test_the_earliest_moment_counts(seconds):
    made = Agenda(NOW)
    for s in seconds:
        made.look_again_at(NOW + timedelta(seconds=s))
    assert made.requeue_after == 10


def test_a_moment_that_has_passed_is_now():
    made = Agenda(NOW)
    made.look_again_at(NOW - timedelta(seconds=5))
    assert made.requeue_after == 0


def test_a_long_message_is_cut_everywhere():
    entered, waiting, failed = draft(), draft(), draft()
    entered.enter(Phase.TRAINING, LONG)
    waiting.wait(Phase.PENDING, Reason.GATE_NOT_FOUND, LONG, 60)
    failed.fail(Failure(reason=Reason.KILLED, message=LONG))
    for made in (entered, waiting, failed):
        assert len(made.status.message) == MAX_MESSAGE
    assert failed.status.failure is not None
    assert len(failed.status.failure.message) == MAX_MESSAGE
