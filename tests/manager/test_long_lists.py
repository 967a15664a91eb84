"""Events that Kopf delivers while many objects are stored, or change."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from kubernetes import client

from support import manifests
from support.operator_process import watching
from support.waiting import eventually
from tunegate_operator.engine.clock import SystemClock
from tunegate_operator.engine.cluster import WatchEvent
from tunegate_operator.engine.kubernetes import KubernetesCluster
from tunegate_operator.kopf_watches import KOPF_WORKERS

pytestmark = pytest.mark.cluster
GROUP = ("tunegate.dev", "v1alpha2", "default", "evalgates")
MANY = 1500
MOST_SECONDS = 0.9 * MANY / KOPF_WORKERS * 0.1
"""Limit for the time until an event after changes of many objects is delivered. With Kopf's own idle time of
0.1 s, each worker delivers ten objects per second, so the last one takes longer than this on the fastest
machine. ``make bench-operator`` measures the time with 5,000 stored objects."""


def test_kopf_lists_no_stored_objects_but_changes_arrive_timely(server, api):
    custom = client.CustomObjectsApi(api)
    names = [f"stored-{n}" for n in range(MANY)]
    with ThreadPoolExecutor(16) as pool:
        gates = map(manifests.evalgate, names)
        list(pool.map(lambda gate: custom.create_namespaced_custom_object(*GROUP, gate), gates))
        seen: dict[str, list[WatchEvent]] = {}
        cluster = KubernetesCluster(api, SystemClock())
        cluster.watch(lambda event: seen.setdefault(event.obj["metadata"]["name"], []).append(event))
        with watching(cluster, server.kubeconfig):
            custom.create_namespaced_custom_object(*GROUP, manifests.evalgate("new"))
            eventually(lambda: "new" in seen, what="it is delivered")
            assert not seen.keys() & set(names)
            labels = {"metadata": {"labels": {"changed": "yes"}}}
            list(pool.map(lambda name: custom.patch_namespaced_custom_object(*GROUP, name, labels), names))
            began = time.monotonic()
            custom.create_namespaced_custom_object(*GROUP, manifests.evalgate("after"))
            eventually(lambda: "after" in seen, seconds=30, what="it is delivered")
            took = time.monotonic() - began
            eventually(lambda: set(names) <= seen.keys(), what="all changes are delivered")
    assert took < MOST_SECONDS


def test_events_of_one_object_are_delivered_in_order(server, api):
    custom = client.CustomObjectsApi(api)
    versions: list[int] = []

    def note(event: WatchEvent) -> None:
        if event.obj["metadata"]["name"] == "changed":
            versions.append(int(event.obj["metadata"]["resourceVersion"]))

    cluster = KubernetesCluster(api, SystemClock())
    cluster.watch(note)
    with watching(cluster, server.kubeconfig):
        custom.create_namespaced_custom_object(*GROUP, manifests.evalgate("changed"))
        eventually(lambda: versions, what="it is watched")
        for n in range(50):
            labels = {"metadata": {"labels": {"n": str(n)}}}
            last = custom.patch_namespaced_custom_object(*GROUP, "changed", labels)
        version = int(last["metadata"]["resourceVersion"])
        eventually(lambda: versions and versions[-1] == version, what="the last change is delivered")
    assert versions == sorted(versions)
    assert len(versions) == 51
