"""The queue contains each key at most once. One worker at a time processes a key. Failures delay a key, and
namespaces take turns."""

import threading
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from support.clock import FakeClock
from support.waiting import eventually
from support.work_queue import next_due
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
def test_key_with_two_delays_returns_once_after_the_shorter(
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
        wait = next_due(queue)
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
    assert next_due(queue) == pytest.approx(FIRST_BACKOFF)


def test_backoff_during_an_outage_stays_below_its_limit(queue: WorkQueue, clock: FakeClock) -> None:
    for _ in range(1000):
        queue.add_failed(A, outage=True)
        wait = next_due(queue)
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
    assert next_due(queue) == pytest.approx(FIRST_BACKOFF)


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


# Namespaces take turns


def key(namespace: str, number: int) -> Key:
    return Key("FineTuneJob", namespace, f"job-{number}")


def take_all(queue: WorkQueue) -> list[Key]:
    """Process all ready keys, one after the other."""
    taken = []
    while (found := queue.get(0)) is not None:
        queue.done(found)
        taken.append(found)
    return taken


def test_namespace_with_many_keys_does_not_delay_another(queue: WorkQueue) -> None:
    for number in range(1000):
        queue.add(key("busy", number))
    assert queue.get(0) == key("busy", 0)
    queue.add(key("quiet", 1))
    assert queue.depth() == 1000
    assert [queue.get(0), queue.get(0)] == [key("busy", 1), key("quiet", 1)]


@pytest.mark.parametrize(
    ("added", "taken"),
    [
        ("a1 a2 a3 b1 b2 c1", "a1 b1 c1 a2 b2 a3"),
        ("a1 b1 a2 b2", "a1 b1 a2 b2"),
        ("b1 a1 a2 a3", "b1 a1 a2 a3"),
        ("a2 a1 b2 b1", "a2 b2 a1 b1"),
        ("a1 a2 a1 b1 a1", "a1 b1 a2"),
    ],
)
def test_namespaces_take_turns_and_keep_their_order(queue: WorkQueue, added: str, taken: str) -> None:
    for namespace, number in added.split():
        queue.add(key(namespace, int(number)))
    assert [f"{k.namespace}{k.name[-1]}" for k in take_all(queue)] == taken.split()


def test_delayed_keys_take_turns_when_they_are_due(queue: WorkQueue, clock: FakeClock) -> None:
    for number in range(3):
        queue.add_after(key("busy", number), 1)
    queue.add_after(key("quiet", 0), 2)
    clock.advance(3)
    assert [k.namespace for k in take_all(queue)] == ["busy", "quiet", "busy", "busy"]


def test_namespace_leaves_a_worker_for_others(clock: FakeClock) -> None:
    """Its decisions may be slow, for example because their requests time out."""
    queue = WorkQueue(clock, at_once=2)
    for number in range(5):
        queue.add(key("slow", number))
    assert [queue.get(0), queue.get(0), queue.get(0)] == [key("slow", 0), key("slow", 1), None]
    assert next_due(queue) is None
    queue.add(key("quiet", 0))
    assert queue.get(0) == key("quiet", 0)
    queue.add(key("slow", 1))
    queue.done(key("slow", 1))
    assert [queue.get(0), queue.get(0)] == [key("slow", 2), None]
    queue.done(key("slow", 0))
    queue.done(key("slow", 2))
    assert len(take_all(queue)) == 3


def test_waiting_worker_wakes_when_another_key_is_done() -> None:
    queue = WorkQueue(SystemClock(), at_once=1)
    queue.add(key("slow", 0))
    queue.add(key("slow", 1))
    assert queue.get(0) == key("slow", 0)
    got: list[Key | None] = []
    worker = threading.Thread(target=lambda: got.append(queue.get(None)))
    worker.start()
    eventually(lambda: len(queue._changed._waiters) == 1, what="the worker waits")  # type: ignore[attr-defined]
    queue.done(key("slow", 0))
    worker.join(10)
    queue.shut_down()
    worker.join()
    assert got == [key("slow", 1)]


class Fairness(RuleBasedStateMachine):
    """Keys of three namespaces are added, taken and released in any order, by up to three workers for one
    namespace."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = WorkQueue(FakeClock(), at_once=3)
        self.waiting: dict[str, list[Key]] = {name: [] for name in "abc"}
        """The keys of each namespace that wait, those first that were ready first."""
        self.again: list[Key] = []
        """Keys that were added while they were processed."""
        self.processing: list[Key] = []
        self.overtaken = dict.fromkeys("abc", 0)
        """How many keys were taken since a namespace was ready."""

    @rule(namespace=st.sampled_from("abc"), number=st.integers(0, 6))
    def add(self, namespace: str, number: int) -> None:
        added = key(namespace, number)
        self.queue.add(added)
        if added in self.processing:
            self.again += [added] if added not in self.again else []
        elif added not in self.waiting[namespace]:
            self.waiting[namespace].append(added)

    @rule()
    def take(self) -> None:
        ready = [name for name in "abc" if self.is_ready(name)]
        taken = self.queue.get(0)
        if not ready:
            assert taken is None
            return
        assert taken is not None
        assert taken.namespace in ready
        assert taken == self.waiting[taken.namespace].pop(0), "a namespace keeps its order"
        self.processing.append(taken)
        for name in ready:
            self.overtaken[name] += 1
        self.overtaken[taken.namespace] = 0
        assert max(self.overtaken.values()) < 3, "each other namespace had its turn"

    @precondition(lambda self: self.processing)
    @rule(data=st.data())
    def release(self, data: Any) -> None:
        released = self.processing.pop(data.draw(st.integers(0, len(self.processing) - 1)))
        self.queue.done(released)
        if released in self.again:
            self.again.remove(released)
            self.waiting[released.namespace].append(released)

    def is_ready(self, name: str) -> bool:
        return bool(self.waiting[name]) and sum(k.namespace == name for k in self.processing) < 3

    @invariant()
    def each_waiting_key_counts_once(self) -> None:
        assert self.queue.depth() == sum(map(len, self.waiting.values())) + len(self.again)
        assert next_due(self.queue) == (0.0 if any(map(self.is_ready, "abc")) else None)

    def teardown(self) -> None:
        for each in self.processing:
            self.queue.done(each)
        left = [*self.again, *(k for keys in self.waiting.values() for k in keys)]
        assert sorted(take_all(self.queue)) == sorted(left), "no key is lost"
        assert not self.queue._ready._taken, "no namespace is remembered after its last key"
        assert not self.queue._ready._ready


TestFairness = Fairness.TestCase
