"""After etcd was restored from a backup, resource versions are lower than those that a process has seen.

The process cannot know which of its cached objects are out of date, so it must not go on with them."""

import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest

from tunegate_operator.engine.cache import Cache
from tunegate_operator.engine.cluster import Key, Object, RestoredFromBackupError, WatchEvent
from tunegate_operator.engine.kubernetes import KubernetesCluster
from tunegate_operator.engine.listing import Listing
from tunegate_operator.engine.reflector import Reflector


def job(uid: str, version: int) -> Object:
    metadata = {"name": "a", "namespace": "default", "uid": uid, "resourceVersion": str(version)}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata}


def resync(cache: Cache, since: int, *listed: Object) -> list[WatchEvent]:
    return list(cache.resync("Job", listed, since))


def test_list_with_an_older_version_shows_a_restored_backup() -> None:
    cache = Cache()
    cache.put(job("1", 7))
    with pytest.raises(RestoredFromBackupError, match=r"Job default/a .*etcd was restored"):
        resync(cache, cache.mark(), job("1", 5))


def test_list_with_a_deleted_object_shows_a_restored_backup() -> None:
    cache = Cache()
    cache.apply(WatchEvent("DELETED", job("1", 7)))
    with pytest.raises(RestoredFromBackupError):
        resync(cache, cache.mark(), job("1", 5))


def test_list_with_a_missing_object_shows_a_restored_backup() -> None:
    cache = Cache()
    cache.put(job("1", 5))
    cache.remove("1")
    with pytest.raises(RestoredFromBackupError):
        resync(cache, cache.mark(), job("1", 5))


def test_list_with_a_replaced_object_shows_a_restored_backup() -> None:
    cache = Cache()
    cache.put(job("2", 7))
    with pytest.raises(RestoredFromBackupError):
        resync(cache, cache.mark(), job("1", 5))


@pytest.mark.parametrize("change", ["modified", "deleted", "replaced"])
def test_change_after_the_list_request_is_kept(change: str) -> None:
    cache = Cache()
    cache.put(job("1", 5))
    since = cache.mark()
    if change == "deleted":
        cache.apply(WatchEvent("DELETED", job("1", 7)))
    else:
        cache.put(job("1" if change == "modified" else "2", 7))
    newer = cache.get(Key("Job", "default", "a"))
    assert resync(cache, since, job("1", 5)) == []
    assert cache.get(Key("Job", "default", "a")) == newer


class RestoredCluster:
    """A cluster whose version goes back from 200 to 100 after a reflector has watched."""

    def __init__(self) -> None:
        self.versions = ["200", "100"]
        self.watched: list[str] = []

    def current_version(self, _kind: str, _namespace: str | None) -> str:
        return self.versions.pop(0)

    def watch_from(self, _kind: str, _namespace: str | None, since: str, _seconds: int) -> Iterator[Any]:
        self.watched.append(since)
        yield {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "210"}}}


def test_reflector_does_not_watch_from_a_future_version() -> None:
    """The server would report no event until it reaches this version."""
    cluster = RestoredCluster()
    reflector = Reflector(cast("KubernetesCluster", cluster), Listing("Job", None, lambda: None))
    with pytest.raises(RestoredFromBackupError, match=r"Jobs .*from 210 to 100"):
        reflector.run(threading.Event())
    assert cluster.watched == ["200"]
