"""Pages that need the same objects share one read."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.clock import FakeClock
from support.waiting import eventually
from tunegate_client.ui.shared_reads import SharedReads


class SlowRead:
    """A read that ends when the test lets it."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        assert self.may_end.wait(30)
        return "objects"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def reads(clock: FakeClock) -> SharedReads:
    return SharedReads(limit=4, seconds=1.0, clock=clock)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


def failing(calls: list[str]) -> Callable[[], str]:
    def read() -> str:
        calls.append("read")
        raise ValueError("no answer")

    return read


def test_slow_read_does_not_delay_other_keys(reads: SharedReads, threads: ThreadPoolExecutor) -> None:
    slow = SlowRead()
    first = threads.submit(reads.get, "jobs", slow)
    eventually(lambda: slow.calls, what="the slow read has begun")
    assert threads.submit(reads.get, "gates", lambda: "gates").result(10) == "gates"
    slow.may_end.set()
    assert first.result(10) == "objects"


def test_concurrent_reads_of_a_key_share_one_read(reads: SharedReads, threads: ThreadPoolExecutor) -> None:
    slow = SlowRead()
    results = [threads.submit(reads.get, "jobs", slow) for _ in range(3)]
    eventually(lambda: slow.calls, what="a read has begun")
    slow.may_end.set()
    assert [result.result(10) for result in results] == ["objects"] * 3
    assert slow.calls == 1


def test_result_is_read_again_after_it_has_expired(reads: SharedReads, clock: FakeClock) -> None:
    assert reads.get("jobs", lambda: "old") == "old"
    clock.advance(0.9)
    assert reads.get("jobs", lambda: "new") == "old"
    clock.advance(0.2)
    assert reads.get("jobs", lambda: "new") == "new"


def test_failed_read_is_repeated_only_after_it_has_expired(reads: SharedReads, clock: FakeClock) -> None:
    calls = list[str]()
    for _ in range(2):
        with pytest.raises(ValueError, match="no answer"):
            reads.get("jobs", failing(calls))
    assert len(calls) == 1
    clock.advance(1.1)
    assert reads.get("jobs", lambda: "jobs") == "jobs"
