"""Watches on a real API server resume after outages, and lists find the changes that watches missed."""

import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from support import manifests
from support.api_server import ApiServer, api_server
from support.operator_process import watching
from support.waiting import eventually
from tunegate_operator.engine.api_errors import ExpiredError
from tunegate_operator.engine.cache import Cache
from tunegate_operator.engine.clock import SystemClock
from tunegate_operator.engine.cluster import (
    ClusterError,
    ConflictError,
    Key,
    Object,
    RestoredFromBackupError,
    WatchEvent,
)
from tunegate_operator.engine.kubernetes import KubernetesCluster
from tunegate_operator.engine.listing import Listing
from tunegate_operator.engine.objects import uid_of
from tunegate_operator.engine.reflector import Reflector

pytestmark = pytest.mark.cluster


@pytest.fixture
def cluster(server: ApiServer) -> Iterator[KubernetesCluster]:
    """A cluster client for this test only, which has no listeners and no watches yet."""
    with server.client(retries=False) as api:
        yield KubernetesCluster(api, SystemClock())


def new_gate() -> Object:
    made = manifests.evalgate(f"golden-{uuid.uuid4().hex[:6]}")
    made["metadata"]["namespace"] = "default"
    return made


def test_watch_resumes_after_an_api_server_outage(server: ApiServer, cluster: KubernetesCluster) -> None:
    """The server may no longer have the version of the watch. Then the list at the start of the next watch
    has the missed changes."""
    seen: list[WatchEvent] = []
    cache = Cache()
    cluster.watch(lambda event: cache.apply(event) and seen.append(event))

    def relist(kind: str) -> None:
        seen.extend(cache.resync(kind, cluster.list_objects(kind), cache.mark()))

    with watching(cluster, server.kubeconfig, relist):
        before = cluster.create(new_gate())
        eventually(lambda: uid_of(before) in {uid_of(event.obj) for event in seen})
        with server.outage(), pytest.raises(ClusterError) as refused:
            list(cluster.list_objects("EvalGate"))
        assert not isinstance(refused.value, ConflictError)
        after = cluster.create(new_gate())
        eventually(lambda: uid_of(after) in {uid_of(event.obj) for event in seen}, seconds=60)
        cluster.delete(Key.of(after), uid_of(after))
        eventually(
            lambda: ("DELETED", uid_of(after)) in {(event.type, uid_of(event.obj)) for event in seen},
            seconds=60,
        )


def test_first_list_of_a_watch_finds_earlier_deletions(server: ApiServer, cluster: KubernetesCluster) -> None:
    found: list[WatchEvent] = []
    cache = Cache()
    cluster.watch(cache.apply)

    def relist(kind: str) -> None:
        found.extend(cache.resync(kind, cluster.list_objects(kind), cache.mark()))

    with watching(cluster, server.kubeconfig, relist):
        gate = cluster.create(new_gate())
        eventually(lambda: cache.by_uid(uid_of(gate)))
    found.clear()
    cluster.delete(Key.of(gate), uid_of(gate))
    stays = cluster.create(new_gate())
    with watching(cluster, server.kubeconfig, relist):
        # Other objects may be deleted now: the garbage collector cleans up after other tests.
        of_gate = [event.type for event in found if uid_of(event.obj) == uid_of(gate)]
        assert of_gate == ["DELETED"]
    assert cache.get(Key.of(gate)) is None
    assert cache.get(Key.of(stays)) is not None


class ExpiredStart:
    """A cluster whose first watch of EvalGates starts from an expired resourceVersion.

    For built-in kinds, version 1 never expires if their watch cache was filled before the server's first
    write. That of EvalGates is filled after their CRD was written.
    """

    def __init__(self, cluster: KubernetesCluster) -> None:
        self._cluster = cluster
        self._versions = iter(["1"])
        # A server whose watch cache is not ready asks etcd, which still has that version.
        eventually(lambda: has_expired(cluster, "1"), seconds=90, what="version 1 has expired", pause=0.5)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cluster, name)

    def current_version(self, kind: str, namespace: str | None) -> str:
        return next(self._versions, "") or self._cluster.current_version(kind, namespace)


def has_expired(cluster: KubernetesCluster, version: str) -> bool:
    try:
        next(iter(cluster.watch_from("EvalGate", None, version, 1)), None)
    except ExpiredError:
        return True
    except ClusterError:  # not ready yet
        pass
    return False


def new_config_map() -> Object:
    made = manifests.config_map(f"rows-{uuid.uuid4().hex[:6]}", {"a": "1"})
    made["metadata"]["namespace"] = "default"
    return made


def test_reflector_relists_when_its_resource_version_has_expired(cluster: KubernetesCluster) -> None:
    lists: list[float] = []
    cache, stop = Cache(), threading.Event()
    cluster.watch(cache.apply)
    expired = cast("KubernetesCluster", ExpiredStart(cluster))
    reflector = Reflector(expired, Listing("EvalGate", None, lambda: lists.append(time.monotonic())))
    thread = threading.Thread(target=reflector.run, args=(stop,), daemon=True)
    thread.start()
    try:
        eventually(lambda: len(lists) == 2, what="a second list")
        made = cluster.create(new_gate())
        eventually(lambda: cache.by_uid(uid_of(made)), what="the watch goes on")
    finally:
        stop.set()
    cluster.delete(Key.of(made), uid_of(made))
    thread.join(90)
    assert not thread.is_alive()


def test_reflector_sees_all_changes_during_an_outage(server: ApiServer, cluster: KubernetesCluster) -> None:
    cache, stop = Cache(), threading.Event()
    cluster.watch(cache.apply)

    def relist() -> None:
        list(cache.resync("ConfigMap", cluster.list_objects("ConfigMap"), cache.mark()))

    listing = Listing("ConfigMap", None, relist)
    reflector = Reflector(cluster, listing)
    threading.Thread(target=reflector.run, args=(stop,), daemon=True).start()
    try:
        assert listing.is_synced.wait(30)
        stays, goes = cluster.create(new_config_map()), cluster.create(new_config_map())
        eventually(lambda: cache.by_uid(uid_of(stays)) and cache.by_uid(uid_of(goes)))
        with server.outage():
            pass
        cluster.delete(Key.of(goes), uid_of(goes))
        new = cluster.create(new_config_map())
        eventually(lambda: cache.by_uid(uid_of(new)) and not cache.by_uid(uid_of(goes)), seconds=60)
        assert cache.by_uid(uid_of(stays))
    finally:
        stop.set()


def test_reflector_ends_after_etcd_is_restored_from_a_backup(tmp_path: Path) -> None:
    """The server accepts a watch from a version in its future, and reports no event."""
    with api_server(tmp_path) as server, server.client(retries=False) as api:
        cluster = KubernetesCluster(api, SystemClock())
        backup = server.back_up()
        cache, stop = Cache(), threading.Event()
        cluster.watch(cache.apply)
        listing = Listing("ConfigMap", None, lambda: None)
        with ThreadPoolExecutor(1) as pool:
            reflecting = pool.submit(Reflector(cluster, listing).run, stop)
            try:
                assert listing.is_synced.wait(30)
                lost = cluster.create(new_config_map())
                eventually(lambda: cache.by_uid(uid_of(lost)))
                server.restore(backup)
                with pytest.raises(RestoredFromBackupError):
                    reflecting.result(90)
            finally:
                stop.set()
