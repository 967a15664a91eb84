"""The cache keeps only the metadata of ConfigMaps, because any user may create large ones. Their content is
read when a decision needs it."""

import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from tunegate_operator.engine.cache import Cache
from tunegate_operator.engine.cluster import ClusterError, Key, Object, WatchEvent
from tunegate_operator.engine.objects import write_json

MB = 1024 * 1024
KEY = Key("ConfigMap", "default", "rows")


def config_map(name: str = "rows", version: int = 1, text: str = "1", **metadata: Any) -> Object:
    """Build a ConfigMap whose uid is its name."""
    made = {"name": name, "namespace": "default", "uid": name, "resourceVersion": str(version)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": made | metadata, "data": {"rows": text}}


class Stored:
    """The ConfigMaps of a cluster. Records which of them were read."""

    def __init__(self, *objects: Object) -> None:
        self.objects = {Key.of(obj): obj for obj in objects}
        self.reads: list[str] = []

    def read(self, key: Key) -> Object | None:
        self.reads.append(key.name)
        return self.objects.get(key)


@pytest.fixture
def memory() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def apply_event(cache: Cache, obj: Object, type: str = "ADDED") -> None:
    assert type in ("ADDED", "MODIFIED", "DELETED")
    cache.apply(WatchEvent(type, obj))  # type: ignore[arg-type]


def test_config_map_content_is_read_once_per_version() -> None:
    stored = Stored(config_map())
    cache = Cache(stored.read)
    apply_event(cache, config_map())
    assert cache.has(KEY)
    assert stored.reads == []
    assert [cache.get(KEY), cache.get(KEY)] == [config_map()] * 2
    assert stored.reads == ["rows"]
    stored.objects[KEY] = changed = config_map(version=2, text="2")
    apply_event(cache, changed, "MODIFIED")
    assert [cache.get(KEY), cache.get(KEY)] == [changed] * 2
    assert stored.reads == ["rows"] * 2


def test_config_map_read_before_its_event_is_not_reread() -> None:
    changed = config_map(version=2, text="2")
    stored = Stored(changed)
    cache = Cache(stored.read)
    apply_event(cache, config_map())
    assert cache.get(KEY) == changed
    apply_event(cache, config_map(), "MODIFIED")
    apply_event(cache, changed, "MODIFIED")
    assert cache.get(KEY) == changed
    assert stored.reads == ["rows"]


def test_config_map_written_by_the_operator_needs_no_read() -> None:
    stored = Stored()
    cache = Cache(stored.read)
    cache.put(config_map(text="plan"))
    assert cache.get(KEY) == config_map(text="plan")
    assert stored.reads == []


def test_deleted_config_map_is_not_read() -> None:
    stored = Stored()
    cache = Cache(stored.read)
    cache.put(config_map())
    apply_event(cache, config_map(version=2), "DELETED")
    assert cache.get(KEY) is None
    assert not cache.has(KEY)
    assert stored.reads == []


def test_read_of_a_config_map_deleted_meanwhile_returns_none() -> None:
    cache = Cache(Stored().read)
    apply_event(cache, config_map())
    assert cache.get(KEY) is None


def test_failed_read_raises_an_error_instead_of_returning_none() -> None:
    def fail(key: Key) -> Object:
        raise ClusterError(f"no answer about {key.name}")

    cache = Cache(fail)
    apply_event(cache, config_map())
    with pytest.raises(ClusterError, match="no answer about rows"):
        cache.get(KEY)


def test_config_map_larger_than_the_cache_is_read_each_time() -> None:
    stored = Stored(config_map(text="x" * 1000))
    cache = Cache(stored.read, content_bytes=500)
    apply_event(cache, config_map())
    for _ in range(3):
        assert cache.get(KEY) == stored.objects[KEY]
    assert stored.reads == ["rows"] * 3


def test_least_recently_read_config_map_leaves_the_cache_first() -> None:
    small = {name: config_map(name, text="x" * 400) for name in "abc"}
    stored = Stored(*small.values())
    cache = Cache(stored.read, content_bytes=2 * len(write_json(small["a"])))
    for obj in small.values():
        apply_event(cache, obj)
    for name in "abacacb":
        assert cache.get(Key("ConfigMap", "default", name)) == small[name]
    assert stored.reads == ["a", "b", "c", "b"]


def test_memory_does_not_grow_with_the_content_of_config_maps(memory: None) -> None:  # noqa: ARG001
    cache = Cache()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(30):
        apply_event(cache, config_map(f"foreign-{number}", text="x" * MB))
    listed = (config_map(f"listed-{number}", text="x" * MB) for number in range(30))
    assert sum(1 for _ in cache.resync("ConfigMap", listed, cache.mark())) == 60, "30 added, 30 deleted"
    assert tracemalloc.get_traced_memory()[0] - before < MB / 4


def test_cached_config_map_content_stays_within_its_limit(memory: None) -> None:  # noqa: ARG001
    cache = Cache(lambda key: config_map(key.name, text="x" * MB), content_bytes=4 * MB)
    before, _ = tracemalloc.get_traced_memory()
    for number in range(30):
        apply_event(cache, config_map(f"foreign-{number}"))
        assert cache.get(Key("ConfigMap", "default", f"foreign-{number}")) is not None
    assert tracemalloc.get_traced_memory()[0] - before < 4.5 * MB


@pytest.mark.parametrize("kind", ["ConfigMap", "Pod", "Job", "FineTuneJob", "EvalGate"])
def test_metadata_from_users_is_not_cached(kind: str) -> None:
    big = "x" * 1000
    reference = {"apiVersion": "v1", "kind": "Thing", "name": "a", "uid": "u"}
    made = config_map() | {"kind": kind}
    made["metadata"] |= {
        "labels": {"app.kubernetes.io/managed-by": "tunegate", "tunegate.dev/role": "data", "team": big},
        "annotations": {"tunegate.dev/continue": "{}", "note": big, "tunegate.dev/note": big},
        "ownerReferences": [reference | {"name": big}, reference | {"uid": "owner", "controller": True}],
        "finalizers": [f"example.com/{big}"],
        "managedFields": [{"manager": big}],
    }
    cache = Cache()
    cache.put(made)
    (held,) = cache.of_kind(kind, "default")
    assert held["metadata"] == {
        "name": "rows",
        "namespace": "default",
        "uid": "rows",
        "resourceVersion": "1",
        "labels": {"app.kubernetes.io/managed-by": "tunegate", "tunegate.dev/role": "data"},
        "annotations": {"tunegate.dev/continue": "{}"},
        "ownerReferences": [reference | {"uid": "owner", "controller": True}],
    }


def test_oversized_owner_reference_is_not_cached() -> None:
    cache = Cache()
    owner = {"apiVersion": "v1", "kind": "Thing", "name": "x" * MB, "uid": "owner", "controller": True}
    cache.put(config_map(ownerReferences=[owner]))
    owned = {"kind": "Thing", "metadata": {"name": "x" * MB, "namespace": "default", "uid": "owner"}}
    assert cache.children(owned, "ConfigMap") == []
    assert cache.has(KEY)
