"""Requests are retried while a cluster is unavailable, with growing pauses and an end."""

import pytest

from tunegate_client.places.client import ClusterUnreachableError
from tunegate_client.places.retry import GIVE_UP_SECONDS, Retry


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def test_pauses_grow_until_the_failure_is_final() -> None:
    time, notices = Time(), list[str]()
    retry, error = Retry(notices.append, lambda: time.now, time.sleep), ClusterUnreachableError("no answer")

    def fail_forever() -> None:
        while True:
            retry.wait(error)

    with pytest.raises(ClusterUnreachableError, match="no answer"):
        fail_forever()
    assert time.pauses[:6] == [1, 2, 4, 8, 15, 15]
    assert GIVE_UP_SECONDS - 15 <= sum(time.pauses) <= GIVE_UP_SECONDS
    assert notices[0] == "no answer; retrying in 1 s"


def test_success_starts_the_pauses_again() -> None:
    time = Time()
    retry, error = Retry(lambda _: None, lambda: time.now, time.sleep), ClusterUnreachableError("no answer")
    for _ in range(30):
        retry.wait(error)
        time.now += GIVE_UP_SECONDS / 2
        retry.succeeded()
    assert set(time.pauses) == {1.0}
