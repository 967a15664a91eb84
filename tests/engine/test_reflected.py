"""Reflectors fill the cache from a real API server, and use little memory for large objects."""

import gc
import threading
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kubernetes import client

from support import manifests
from support.api_server import ApiServer
from support.waiting import eventually
from tunegate_operator.engine import kubernetes, pages
from tunegate_operator.engine.answers import AnswerTooLargeError
from tunegate_operator.engine.cache import Cache
from tunegate_operator.engine.clock import SystemClock
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.kubernetes import KubernetesCluster
from tunegate_operator.engine.listing import Listing
from tunegate_operator.engine.objects import uid_of
from tunegate_operator.engine.pages import PAGE_BYTES
from tunegate_operator.engine.reflector import Reflector
from tunegate_operator.names import MANAGED_LABELS

pytestmark = pytest.mark.cluster
MB = 1024 * 1024
ANNOTATION = 256 * 1024
"""The most bytes of annotations that an object may have. They are part of its metadata."""
FOREIGN = 40
"""Number of ConfigMaps that users create before the first list, and number that they create after it."""
HELD = FOREIGN * ANNOTATION / 2
"""Limit for the growth of memory in bytes. It is half of the size of the ConfigMaps, and far above the memory
that threads need while they read."""


@pytest.fixture
def cluster(server: ApiServer) -> Iterator[KubernetesCluster]:
    with server.client(retries=False) as api:
        yield KubernetesCluster(api, SystemClock())


@pytest.fixture
def namespace(server: ApiServer) -> Iterator[str]:
    """A namespace for this test only, deleted afterwards with its objects."""
    name = f"tenant-{uuid.uuid4().hex[:6]}"
    with server.client() as api:
        client.CoreV1Api(api).create_namespace({"metadata": {"name": name}})
        yield name
        client.CoreV1Api(api).delete_namespace(name)


@contextmanager
def reflecting(cluster: KubernetesCluster, cache: Cache, kind: str, namespace: str) -> Iterator[None]:
    """Run a reflector that keeps ``cache`` up to date, as in the operator. Waits for the first list."""

    def relist() -> None:
        listed = cluster.list_objects(kind, namespace)
        for _ in cache.resync(kind, listed, cache.mark(), namespace):
            pass

    cluster.watch(cache.apply)
    stop = threading.Event()
    listing = Listing(kind, namespace, relist)
    reflector = Reflector(cluster, listing)
    threading.Thread(target=reflector.run, args=(stop,), daemon=True).start()
    try:
        assert listing.is_synced.wait(60)
        yield
    finally:
        stop.set()


def create_config_maps(cluster: KubernetesCluster, namespace: str, prefix: str) -> None:
    """Create ConfigMaps of the largest size that the server accepts."""
    for number in range(FOREIGN):
        made = manifests.config_map(f"{prefix}-{number}", {"a": "x" * (MB - 100)})
        made["metadata"] |= {"namespace": namespace, "annotations": {"note": "x" * (ANNOTATION - 100)}}
        cluster.create(made)


def traced() -> int:
    """Return the bytes that Python has allocated."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def grown(work: Callable[[], None]) -> tuple[int, int]:
    """Run ``work``. Returns by how many bytes the allocated memory grew afterwards, and at most during the
    run."""
    before = traced()
    tracemalloc.reset_peak()
    work()
    _, peak = tracemalloc.get_traced_memory()
    return traced() - before, peak - before


def test_large_config_maps_of_users_use_no_memory(cluster: KubernetesCluster, namespace: str) -> None:
    create_config_maps(cluster, namespace, "listed")
    cache = Cache(cluster.get)
    tracemalloc.start()
    try:

        def list_them() -> None:
            with reflecting(cluster, cache, "ConfigMap", namespace):
                pass

        listed, at_most = grown(list_them)
        assert listed < HELD
        assert at_most < 3 * PAGE_BYTES, "a page above the limit was read"
        assert len(cache.of_kind("ConfigMap", namespace)) >= FOREIGN
        with reflecting(cluster, cache, "ConfigMap", namespace):
            last = Key("ConfigMap", namespace, f"watched-{FOREIGN - 1}")

            before = traced()
            create_config_maps(cluster, namespace, "watched")
            eventually(lambda: cache.has(last), what="the last one is held")

            def freed() -> bool:
                held = traced() - before
                assert held < HELD, f"{held / MB:.1f} MiB are held"
                return True

            eventually(freed, seconds=60)
    finally:
        tracemalloc.stop()
    found = cache.get(last)
    assert found is not None
    assert len(found["data"]["a"]) == MB - 100


@pytest.mark.parametrize(
    ("large", "small", "most"),
    [
        pytest.param(4, 196, 15, id="few large objects first"),
        pytest.param(60, 0, 65, id="only large objects"),
    ],
)
def test_pages_of_a_list_have_as_many_objects_as_fit(
    cluster: KubernetesCluster,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    large: int,
    small: int,
    most: int,
) -> None:
    """Pages are limited to 64 objects and 64 KiB in this test, so that a few objects need many pages."""
    monkeypatch.setattr(pages, "PAGE", 64)
    monkeypatch.setattr(pages, "PAGE_BYTES", 64 * 1024)
    for number in range(large + small):  # listed by name
        made = manifests.config_map(f"listed-{number:03}", {})
        made["metadata"] |= {"namespace": namespace}
        if number < large:
            made["metadata"]["annotations"] = {"note": "x" * 60 * 1024}
        cluster.create(made)
    requests = []
    read = cluster._read

    def counted(*args: Any, **options: Any) -> bytes:
        requests.append(options["query"]["limit"])
        return read(*args, **options)

    monkeypatch.setattr(cluster, "_read", counted)
    assert len([*cluster.list_objects("ConfigMap", namespace)]) >= large + small
    assert len(requests) <= most, requests


def test_oversized_list_of_events_is_not_read(
    server: ApiServer, cluster: KubernetesCluster, namespace: str
) -> None:
    pod = str(uuid.uuid4())
    with server.client() as api:
        for number in range(PAGE_BYTES // (200 * 1024) + 1):
            event = {
                "metadata": {"name": f"spam-{number}", "annotations": {"note": "x" * 200 * 1024}},
                "involvedObject": {"kind": "Pod", "namespace": namespace, "name": "train", "uid": pod},
                "reason": "Spam",
                "type": "Normal",
            }
            client.CoreV1Api(api).create_namespaced_event(namespace, event)
    with pytest.raises(AnswerTooLargeError):
        cluster.list_events(namespace, pod)


def test_events_of_several_pages_are_listed(
    cluster: KubernetesCluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "PAGE", 2)
    made = manifests.config_map("eventful", {})
    made["metadata"] |= {"namespace": namespace}
    made = cluster.create(made)
    for reason in "ABCDE":
        cluster.record_event(made, "Normal", reason, f"it is {reason}")
    found = {pages: len(cluster.list_events(namespace, uid_of(made), pages)) for pages in (1, 2, 10)}
    assert found == {1: 2, 2: 4, 10: 5}


def suspended_job(namespace: str) -> Object:
    container = {"name": "trainer", "image": "example.invalid/none", "command": ["true"]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "train", "namespace": namespace, "labels": dict(MANAGED_LABELS)},
        "spec": {
            "suspend": True,
            "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        },
    }


def test_job_is_cached_again_when_its_label_is_restored(
    server: ApiServer, cluster: KubernetesCluster, namespace: str
) -> None:
    cache = Cache(cluster.get)
    with server.client() as api, reflecting(cluster, cache, "Job", namespace):
        jobs, made = client.BatchV1Api(api), cluster.create(suspended_job(namespace))
        eventually(lambda: cache.by_uid(uid_of(made)))
        for _ in range(2):
            unlabelled = {"metadata": {"labels": dict.fromkeys(MANAGED_LABELS)}}
            jobs.patch_namespaced_job("train", namespace, unlabelled)
            eventually(lambda: not cache.by_uid(uid_of(made)), what="the watch says DELETED")
            jobs.patch_namespaced_job("train", namespace, {"metadata": {"labels": MANAGED_LABELS}})
            eventually(lambda: cache.by_uid(uid_of(made)), what="it is held again")
        cluster.delete(Key.of(made), uid_of(made))
        eventually(lambda: not cache.by_uid(uid_of(made)))


def test_job_without_its_label_is_cached_when_read(
    server: ApiServer, cluster: KubernetesCluster, namespace: str
) -> None:
    """The watch reports DELETED for a Job that lost its label, with the version of this change. The Job still
    exists, and a read returns the same version."""
    cache = Cache(cluster.get)
    with server.client() as api, reflecting(cluster, cache, "Job", namespace):
        made = cluster.create(suspended_job(namespace))
        eventually(lambda: cache.by_uid(uid_of(made)))
        unlabelled = {"metadata": {"labels": dict.fromkeys(MANAGED_LABELS)}}
        client.BatchV1Api(api).patch_namespaced_job("train", namespace, unlabelled)
        eventually(lambda: not cache.by_uid(uid_of(made)), what="the watch says DELETED")
        found = cluster.get(Key.of(made))
        assert found is not None
        assert cache.put(found)
        assert cache.by_uid(uid_of(made))
