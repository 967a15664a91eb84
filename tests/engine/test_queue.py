"""Keys come once, one worker at a time, and later after failures."""

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


def test_a_key_added_twice_comes_once(queue: WorkQueue) -> None:
    queue.add(A)
    queue.add(A)
    assert queue.get(0) == A
    queue.done(A)
    assert queue.get(0) is None


def test_keys_come_in_the_order_in_which_they_were_added(queue: WorkQueue) -> None:
    queue.add(B)
    queue.add(A)
    assert [queue.get(0), queue.get(0)] == [B, A]


def test_a_key_added_while_a_worker_has_it_comes_after_that_worker_is_done(queue: WorkQueue) -> None:
    queue.add(A)
    assert queue.get(0) == A
    queue.add(A)
    assert queue.get(0) is None, "two workers have the same key"
    queue.done(A)
    assert queue.get(0) == A


def test_a_delayed_key_comes_when_its_time_has_come(queue: WorkQueue, clock: FakeClock) -> None:
    queue.add_after(A, 10)
    clock.advance(9.9)
    assert queue.get(0) is None
    clock.advance(0.2)
    assert queue.get(0) == A


@pytest.mark.parametrize("delays", [(5, 10), (10, 5)])
def test_the_earliest_of_two_delays_wins_and_the_other_is_void(
    queue: WorkQueue, clock: FakeClock, delays: tuple[float, float]
) -> None:
    for delay in delays:
        queue.add_after(A, delay)
    clock.advance(5)
    assert queue.get(0) == A
    queue.done(A)
    clock.advance(100)
    assert queue.get(0) is None


def test_processing_a_key_makes_its_delay_void(queue: WorkQueue, clock: FakeClock) -> None:
    queue.add_after(A, 10)
    queue.add(A)
    assert queue.get(0) == A
    queue.done(A)
    clock.advance(20)
    assert queue.get(0) is None


def test_a_delay_wished_for_while_a_worker_has_the_key_is_kept(queue: WorkQueue, clock: FakeClock) -> None:
    queue.add(A)
    assert queue.get(0) == A
    queue.add_after(A, 1)
    clock.advance(2)
    assert queue.get(0) is None
    queue.done(A)
    assert queue.get(0) == A


def test_the_backoff_doubles_from_5_ms_to_1000_s(queue: WorkQueue, clock: FakeClock) -> None:
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


def test_forgetting_a_key_starts_its_backoff_anew(queue: WorkQueue) -> None:
    for _ in range(10):
        queue.add_failed(A)
    queue.forget(A)
    assert queue.failures(A) == 0
    queue.add_failed(B)
    assert queue.next_due() == pytest.approx(FIRST_BACKOFF)


def test_after_hours_of_outage_a_key_is_due_within_seconds(queue: WorkQueue, clock: FakeClock) -> None:
    for _ in range(1000):
        queue.add_failed(A, outage=True)
        wait = queue.next_due()
        assert wait is not None
        assert wait <= LONGEST_OUTAGE_BACKOFF
        clock.advance(wait + 1e-6)
        assert queue.get(0) == A
        queue.done(A)
    assert clock.monotonic() > 3600, "the tries of an hour"


def test_keys_that_failed_together_are_tried_again_spread_out(queue: WorkQueue, clock: FakeClock) -> None:
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


def test_a_failure_of_its_own_after_an_outage_starts_anew(queue: WorkQueue) -> None:
    for _ in range(1000):
        queue.add_failed(A, outage=True)
    queue.add(A)
    assert queue.get(0) == A
    queue.done(A)
    queue.add_failed(A)
    assert queue.next_due() == pytest.approx(FIRST_BACKOFF)


def test_one_key_that_fails_does_not_slow_another(queue: WorkQueue) -> None:
    for _ in range(10):
        queue.add_failed(A)
    queue.add(B)
    assert queue.get(0) == B


def test_a_waiting_worker_wakes_for_a_new_key_and_for_the_end(queue: WorkQueue) -> None:
    got: list[Key | None] = []
    worker = threading.Thread(target=lambda: got.extend([queue.get(None), queue.get(None)]))
    worker.start()
    queue.add(A)
    queue.shut_down()  # the worker may get A before that, or nothing any more: it must end in any case
    worker.join(10)
    assert not worker.is_alive()
    assert got[-1] is None


def test_a_worker_that_waits_for_long_wakes_for_what_is_due_sooner() -> None:
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


def test_a_far_time_that_is_said_anew_again_and_again_takes_no_more_memory(
    queue: WorkQueue, clock: FakeClock
) -> None:
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


def test_nothing_comes_after_shut_down(queue: WorkQueue) -> None:
    queue.add(A)
    queue.shut_down()
    queue.add(B)
    assert queue.get(0) is None
