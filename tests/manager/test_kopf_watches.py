"""Kopf opens its watches without a list of objects, and reports each start of a watch."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import kopf
import pytest
from kubernetes.client import ApiClient

from support.builders import make_gate
from support.waiting import eventually
from support.watch_server import WatchServer
from tunegate_operator.engine.clock import SystemClock
from tunegate_operator.engine.cluster import Object, WatchEvent
from tunegate_operator.engine.kubernetes import KubernetesCluster
from tunegate_operator.engine.nesting import MAX_LEVELS
from tunegate_operator.kopf_watches import kopf_settings, own_watches

BOTH = [("EvalGate", None), ("FineTuneJob", None)]


@pytest.fixture
def server() -> Iterator[WatchServer]:
    with WatchServer().running() as made:
        yield made


class Watched:
    """What Kopf reports: the kinds whose watch starts, and the names of objects with events."""

    def __init__(self) -> None:
        self.starts: list[tuple[str, str | None]] = []
        self.names: list[str] = []

    def note_start(self, kind: str, namespace: str | None) -> None:
        self.starts.append((kind, namespace))

    def note_event(self, event: WatchEvent) -> None:
        self.names.append(event.obj["metadata"]["name"])


@contextmanager
def kopf_running(login: Callable[[], kopf.ConnectionInfo]) -> Iterator[Watched]:
    watched, stop = Watched(), threading.Event()
    cluster = KubernetesCluster(ApiClient(), SystemClock())  # Kopf has a client of its own
    cluster.watch(watched.note_event)
    registry = own_watches(cluster, watched.note_start, lambda **_: login())
    settings = kopf_settings()
    settings.networking.error_backoffs = [0.01] * 5

    running = kopf.operator(
        registry=registry, settings=settings, clusterwide=True, standalone=True, stop_flag=stop
    )
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(lambda: asyncio.run(running))
        try:
            yield watched
        finally:
            stop.set()
        ended.result(30)


def gate(name: str, version: int) -> Object:
    made = make_gate(name).obj()
    return made | {"metadata": made["metadata"] | {"uid": name, "resourceVersion": str(version)}}


def test_kopf_watches_both_kinds_and_reads_no_stored_object(server):
    server.objects = [gate(f"stored-{n}", n) for n in range(50)]
    with kopf_running(server.credentials) as watched:
        eventually(lambda: len(server.watches) == 2, what="both kinds are watched")
        assert sorted(watched.starts) == BOTH
        assert {watch["resourceVersion"] for watch in server.watches} == {"100"}
        server.send("evalgates", "ADDED", gate("new", 101))
        eventually(lambda: watched.names, what="the event is delivered")
    assert watched.names == ["new"]
    assert len(server.lists) == 2
    assert not any("fieldSelector" in watch for watch in server.watches)
    assert all("as=PartialObjectMetadata" in accept for accept in server.accepted)


def test_kopf_watches_a_server_whose_url_has_a_path():
    with WatchServer("/k8s/clusters/one").running() as server, kopf_running(server.credentials) as watched:
        eventually(lambda: len(server.watches) == 2, what="both kinds are watched")
        assert sorted(watched.starts) == BOTH
    assert all("fieldSelector" in each for each in server.lists)


@pytest.mark.parametrize("levels", [MAX_LEVELS - 10, 1_500, 9_000])
def test_deeply_nested_object_does_not_end_the_watch(server, levels):
    with kopf_running(server.credentials) as watched:
        server.send_text("evalgates", nested_event(gate("deep", 101), levels))
        server.send("evalgates", "ADDED", gate("next", 102))
        eventually(lambda: watched.names == ["deep", "next"], what="both events are delivered")
        assert len(server.watches) == 2


def nested_event(obj: Object, levels: int) -> bytes:
    fields = [{"manager": "kubectl", "fieldsV1": "DEEP"}]
    text = json.dumps(
        {"type": "ADDED", "object": obj | {"metadata": obj["metadata"] | {"managedFields": fields}}}
    )
    return text.encode().replace(b'"DEEP"', b'{"a":' * levels + b"1" + b"}" * levels)


def test_watch_with_expired_version_is_reported_as_new_start(server):
    with kopf_running(server.credentials) as watched:
        eventually(lambda: len(server.watches) == 2, what="both kinds are watched")
        server.version = 500
        server.send("evalgates", "ERROR", {"kind": "Status", "code": 410})
        eventually(lambda: len(watched.starts) == 3, what="the new start is reported")
        eventually(lambda: server.watches[-1]["resourceVersion"] == "500", what="it is watched again")
    assert watched.starts[-1] == ("EvalGate", None)


def test_watch_start_is_reported_after_its_version_was_read(server):
    server.failing_lists = 2
    with kopf_running(server.credentials) as watched:
        eventually(lambda: len(server.watches) == 2, what="both kinds are watched")
    assert len(server.lists) == 4
    assert sorted(watched.starts) == BOTH


def test_kopf_logs_in_again_after_its_token_has_expired(server):
    with kopf_running(server.credentials) as watched:
        eventually(lambda: len(server.watches) == 2, what="both kinds are watched")
        server.token = "renewed"
        server.send("evalgates", "ERROR", {"kind": "Status", "code": 410})
        eventually(lambda: len(watched.starts) >= 3, what="it is listed with the new token")
        server.send("evalgates", "ADDED", gate("new", 101))
        eventually(lambda: watched.names == ["new"], what="the event is delivered")


def test_kopf_does_not_log_in_forever_with_a_refused_token(server, caplog):
    refused = server.credentials()
    server.token = "renewed"
    with suppress(kopf.LoginError), kopf_running(lambda: refused):
        eventually(lambda: "Ran out of valid credentials" in caplog.text, what="Kopf gives up")
