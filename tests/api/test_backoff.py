"""Pauses between retries double with each failure, up to a limit."""

from datetime import timedelta
from itertools import islice

from tunegate_api.backoff import backoff, backoff_pauses


def test_pause_doubles_with_each_failure_up_to_the_maximum() -> None:
    assert [backoff(1.0, 30.0, failures) for failures in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]


def test_pause_after_many_failures_is_the_maximum() -> None:
    assert backoff(0.005, 1000.0, 10**9) == 1000
    assert backoff(timedelta(minutes=5), timedelta(hours=2), 10**9) == timedelta(hours=2)


def test_successive_pauses_double_and_then_stay_at_the_maximum() -> None:
    assert list(islice(backoff_pauses(0.5, 3), 6)) == [0.5, 1, 2, 3, 3, 3]
