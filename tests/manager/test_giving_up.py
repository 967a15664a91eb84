"""A process whose leader election fails unexpectedly, or whose cluster was restored from a backup, makes no
more decisions and exits."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from support.api_server import free_port
from support.builders import make_gate
from support.fake_cluster import FakeCluster
from support.waiting import eventually
from tunegate_operator.engine.clock import SystemClock
from tunegate_operator.engine.cluster import ClusterError, Key, Object
from tunegate_operator.engine.kubernetes import OWN_RESOURCES
from tunegate_operator.manager import Manager
from tunegate_operator.settings import Settings


class WatchedCluster(FakeCluster):
    """A fake cluster that a Manager can use. Reading the Lease raises ``lease_error`` if it is set."""

    namespaces = (None,)

    def __init__(self) -> None:
        super().__init__()
        self.lease_error: Exception | None = None
        self.lease_reads = 0
        self.closed = threading.Event()
        self.version = "1"

    def get(self, key: Key) -> Object | None:
        if key.kind == "Lease":
            self.lease_reads += 1
            if self.lease_error:
                raise self.lease_error
        return super().get(key)

    def current_version(self, _kind: str, _namespace: str | None) -> str:
        return self.version

    def review_token(self, _token: str, _audience: str) -> Object:
        raise AssertionError("no pod reports here")

    def watch_from(self, _kind: str, _namespace: str | None, _since: str, seconds: int) -> Iterator[Object]:
        self.closed.wait(seconds)
        yield from ()


class Process:
    """A Manager as ``main`` runs it, in its own event loop."""

    def __init__(self, cluster: WatchedCluster) -> None:
        self.cluster = cluster
        self.lost = threading.Event()
        self.settings = Settings(
            trainer_image="trainer:test",
            health_port=free_port(),
            report_port=free_port(),
            pod_name="operator-0",
            pod_namespace="tunegate-system",
            pod_ip="192.0.2.1",
        )
        served: Any = cluster
        self.manager = Manager(self.settings, served, SystemClock(), self.lost.set)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def start(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.manager.start(), self._loop).result(30)
        for kind in OWN_RESOURCES:  # as Kopf does
            self.manager.watch_starts(kind, None)

    def stop(self) -> None:
        self.cluster.closed.set()
        asyncio.run_coroutine_threadsafe(self.manager.stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def threads(self, name: str) -> list[threading.Thread]:
        return [thread for thread in self.manager._threads if thread.name.startswith(name)]

    def leads(self) -> bool:
        return bool(self.threads("resync"))


@pytest.fixture
def process() -> Iterator[Process]:
    made = Process(WatchedCluster())
    try:
        yield made
    finally:
        made.stop()


def test_unexpected_error_while_renewing_ends_the_leader(process, caplog):
    process.start()
    eventually(process.leads, what="it leads")
    workers = process.threads("worker")
    assert len(workers) == 4
    process.cluster.lease_error = TypeError("nobody foresaw this")
    assert process.lost.wait(10), "the process must exit"
    for worker in workers:
        worker.join(5)
    assert not any(worker.is_alive() for worker in workers), "no more decisions are made"
    assert "nobody foresaw this" in caplog.text


def test_leader_decides_nothing_after_failing_to_renew_its_lease(process):
    def written(gate: str) -> bool:
        return any(write.name == gate for write in process.cluster.writes)

    process.start()
    eventually(process.leads, what="it leads")
    process.cluster.as_user.create(make_gate("before").obj())
    eventually(lambda: written("before"), what="a status")
    process.cluster.lease_error = TypeError("nobody foresaw this")
    assert process.lost.wait(10)
    process.cluster.as_user.create(make_gate("after").obj())
    assert process.manager._queue.get(0) is None
    assert not written("after")


def test_unexpected_error_before_leading_ends_the_process(process, caplog):
    process.cluster.lease_error = KeyError("nobody foresaw this")
    process.start()
    assert process.lost.wait(10)
    assert not process.threads("worker")
    assert "nobody foresaw this" in caplog.text


def test_new_leader_that_cannot_start_a_thread_ends_the_process(process, caplog, monkeypatch):
    start = threading.Thread.start

    def fail(thread: threading.Thread) -> None:
        if thread.name == "start":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", fail)
    process.start()
    assert process.lost.wait(10)
    assert not process.threads("worker")
    assert "can't start new thread" in caplog.text


def test_leader_that_cannot_listen_for_reports_ends_the_process(process, caplog):
    with socket.create_server(("", process.settings.report_port)):
        process.start()
        assert process.lost.wait(10)
    for worker in process.threads("worker"):
        worker.join(5)
        assert not worker.is_alive()
    assert "leading failed" in caplog.text


def test_process_exits_after_etcd_was_restored_from_a_backup(process, caplog):
    """A process that does not lead has a cache too, with which it would make decisions later."""
    process.cluster.lease_error = ClusterError("not now")
    process.start()
    eventually(lambda: all(listing.is_synced.is_set() for listing in process.manager._listings))
    process.cluster.version = "0"
    process.cluster.closed.set()
    assert process.lost.wait(10), "the process must exit"
    assert "etcd was restored from a backup" in caplog.text
