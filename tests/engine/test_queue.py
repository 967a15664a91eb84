"""The queue contains each key at most once. One worker at a time processes a key. Failures delay a key."""

import threading

import pytest

from support.clock import FakeClock
from support.waiting import eventually
from tunegate_operator.engine.clock import SystemClock
from tunegate_operator.engine.cluster import Key
from tunegate_operator.engine.queue import (
    FIRST_BACKOFF,
    LONGEST_BACKOFF,
    LONGEST_OUTAGE_BACKOFF,
    STALE_ENTRIES,
    WorkQueue,
)

A, B = Key("FineTuneJob", "default", "a"), Key("FineTuneJob", "default", "b")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def queue(clock: FakeClock) -> WorkQueue:
    return WorkQueue(clock)


def test_key_added_twice_is_returned_once(queue: WorkQueue) -> None:
    queue.add(A)
    queue.add(A)
    assert queue.get(0) == A
    queue.done(A)
    assert queue.get(0) is None


def test_keys_are_returned_in_the_order_added(queue: WorkQueue) -> None:
    queue.add(B)
    queue.add(A)
    assert [queue.get(0), queue.get(0)] == [B, A]


def test_key_added_during_processing_is_queued_again_afterwards(queue: WorkQueue) -> None:
    queue.add(A)
    assert queue.get(0) == A
    queue.add(A)
    assert queue.get(0) is None, "two workers have the same key"
    queue.done(A)
    assert queue.get(0) == A


def test_delayed_key_is_returned_when_due(queue: WorkQueue, clock: FakeClock) -> None:
    queue.add_after(A, 10)
    clock.advance(9.9)
    assert queue.get(0) is None
    clock.advance(0.2)
    assert queue.get(0) == A


@pytest.mark.parametrize("delays", [(5, 10), (10, 5)])
def test_key_with_two_delays_is_returned_once_after_the_shorter_delay(
    queue: WorkQueue, clock: FakeClock, delays: tuple[float, float]
) -> None:
    for delay in delays:
        queue.add_after(A, delay)
    clock.advance(5)
    assert queue.get(0) == A
    queue.done(A)
    clock.advance(100)
    assert queue.get(0) is None


def test_processing_a_key_cancels_its_delay(queue: WorkQueue, clock: FakeClock) -> None:
    queue.add_after(A, 10)
    queue.add(A)
    assert queue.get(0) == A
    queue.done(A)
    clock.advance(20)
    assert queue.get(0) is None


def test_delay_set_during_processing_is_kept(queue: WorkQueue, clock: FakeClock) -> None:
    queue.add(A)
    assert queue.get(0) == A
    queue.add_after(A, 1)
    clock.advance(2)
    assert queue.get(0) is None
    queue.done(A)
    assert queue.get(0) == A


def test_backoff_doubles_from_5_ms_to_1000_s(queue: WorkQueue, clock: FakeClock) -> None:
    waits = []
    for _ in range(40):
        queue.add_failed(A)
        wait = queue.next_due()
        assert wait is not None
        waits.append(wait)
        clock.advance(wait + 1e-6)
        assert queue.get(0) == A
        queue.done(A)
    assert waits[:4] == pytest.approx([0.005, 0.01, 0.02, 0.04])
    assert waits[-1] == pytest.approx(LONGEST_BACKOFF)


def test_forget_resets_the_backoff(queue: WorkQueue) -> None:
    for _ in range(10):
        queue.add_failed(A)
    queue.forget(A)
    assert queue.failures(A) == 0
    queue.add_failed(B)
    assert queue.next_due() == pytest.approx(FIRST_BACKOFF)


def test_backoff_during_an_outage_stays_below_its_limit(queue: WorkQueue, clock: FakeClock) -> None:
    for _ in range(1000):
        queue.add_failed(A, outage=True)
        wait = queue.next_due()
        assert wait is not None
        assert wait <= LONGEST_OUTAGE_BACKOFF
        clock.advance(wait + 1e-6)
        assert queue.get(0) == A
        queue.done(A)
    assert clock.monotonic() > 3600, "the retries of an hour"


def test_retries_after_an_outage_are_spread_over_time(queue: WorkQueue, clock: FakeClock) -> None:
    keys = [Key("FineTuneJob", "default", f"job-{i}") for i in range(1000)]
    for key in keys:
        for _ in range(20):
            queue.add_failed(key, outage=True)
            queue.add(key)
            assert queue.get(0) == key
            queue.done(key)
        queue.add_failed(key, outage=True)
    due = []
    for _ in range(int(LONGEST_OUTAGE_BACKOFF)):
        clock.advance(1)
        due.append(0)
        while queue.get(0):
            due[-1] += 1
    assert sum(due) == len(keys)
    assert max(due) < 0.25 * len(keys)


def test_first_failure_after_an_outage_has_the_shortest_backoff(queue: WorkQueue) -> None:
    for _ in range(1000):
        queue.add_failed(A, outage=True)
    queue.add(A)
    assert queue.get(0) == A
    queue.done(A)
    queue.add_failed(A)
    assert queue.next_due() == pytest.approx(FIRST_BACKOFF)


def test_failing_key_does_not_delay_other_keys(queue: WorkQueue) -> None:
    for _ in range(10):
        queue.add_failed(A)
    queue.add(B)
    assert queue.get(0) == B


def test_waiting_worker_wakes_for_a_new_key_and_at_shutdown(queue: WorkQueue) -> None:
    got: list[Key | None] = []

    def work() -> None:
        got.append(queue.get(None))
        got.append(queue.get(None))

    worker = threading.Thread(target=work)
    worker.start()
    eventually(lambda: len(queue._changed._waiters) == 1, what="the worker waits")  # type: ignore[attr-defined]
    queue.add(A)
    eventually(lambda: got == [A], what="the worker got the key")
    queue.shut_down()
    worker.join(10)
    assert got == [A, None]


def test_waiting_worker_wakes_for_a_key_that_is_due_sooner() -> None:
    queue = WorkQueue(SystemClock())
    queue.add_after(B, 1000)
    got: list[Key | None] = []
    worker = threading.Thread(target=lambda: got.append(queue.get(None)))
    worker.start()
    eventually(lambda: len(queue._changed._waiters) == 1, what="the worker waits")  # type: ignore[attr-defined]
    queue.add_after(A, 0.01)
    worker.join(10)
    queue.shut_down()
    worker.join()
    assert got == [A]


def test_repeated_delays_of_a_key_use_no_more_memory(queue: WorkQueue, clock: FakeClock) -> None:
    for _ in range(1000):
        queue.add_after(A, 3600)
        queue.add(A)
        assert queue.get(0) == A
        queue.done(A)
    assert len(queue._delayed) <= STALE_ENTRIES + 2
    queue.add_after(A, 3600)
    clock.advance(3599)
    assert queue.get(0) is None
    clock.advance(1)
    assert queue.get(0) == A


def test_no_key_is_returned_after_shutdown(queue: WorkQueue) -> None:
    queue.add(A)
    queue.shut_down()
    queue.add(B)
    assert queue.get(0) is None
