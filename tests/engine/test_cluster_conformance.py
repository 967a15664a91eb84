"""The conformance tests for ``cluster.Cluster``. They run with all three implementations.

A real cluster deletes owned objects in the background, and its watch events arrive in another thread. So the
tests wait for deletions and for events.
"""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import manifests
from support.fake_cluster import FakeCluster
from support.waiting import eventually
from tunegate_client.laptop.cluster import LocalCluster
from tunegate_operator.engine.apply import apply, create_ours
from tunegate_operator.engine.cache import Cache
from tunegate_operator.engine.cluster import (
    AlreadyExistsError,
    Cluster,
    ConflictError,
    InvalidObjectError,
    Key,
    NotFoundError,
    Object,
    WatchEvent,
)
from tunegate_operator.engine.finalizers import add_finalizer, remove_finalizer
from tunegate_operator.engine.objects import resource_version, uid_of
from tunegate_operator.engine.owners import owner_reference
from tunegate_operator.engine.prune import prune

Names = Callable[[str], str]


@pytest.fixture(params=["fake", "local", pytest.param("kubernetes", marks=pytest.mark.cluster)])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    if request.param == "fake":
        yield FakeCluster()
    elif request.param == "local":
        with LocalCluster(tmp_path, lambda claim: tmp_path / claim) as local:
            yield local
    else:
        yield request.getfixturevalue("kubernetes")


@pytest.fixture
def named() -> Names:
    """Return a function that makes unique names, because several tests share a cluster."""
    suffix = uuid.uuid4().hex[:6]
    return lambda name: f"{name}-{suffix}"


def config_map(name: str, owner: Object | None = None, **data: str) -> Object:
    made = manifests.config_map(name, data)
    made["metadata"]["namespace"] = "default"
    made["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "tunegate"}
    if owner:
        made["metadata"]["ownerReferences"] = [owner_reference(owner)]
    return made


def finetunejob(name: str) -> Object:
    made = manifests.finetunejob()
    made["metadata"] = {"name": name, "namespace": "default"}
    return made


def job(name: str, owner: Object) -> Object:
    """Build a suspended Job, which starts no pods on any cluster."""
    container = {"name": "trainer", "image": "example.invalid/none", "command": ["true"]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {"app.kubernetes.io/managed-by": "tunegate"},
            "ownerReferences": [owner_reference(owner)],
        },
        "spec": {
            "suspend": True,
            "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        },
    }


def version(obj: Object) -> str:
    text: str = obj["metadata"]["resourceVersion"]
    return text


def get(cluster: Cluster, obj: Object) -> Object:
    found = cluster.get(Key.of(obj))
    assert found is not None
    return found


def test_created_object_can_be_read_and_listed(cluster: Cluster, named: Names) -> None:
    made = cluster.create(config_map(named("a"), x="1"))
    assert uid_of(made)
    assert resource_version(made) > 0
    assert made["metadata"]["creationTimestamp"].endswith("Z")
    assert get(cluster, made) == made
    assert uid_of(made) in map(uid_of, cluster.list_objects("ConfigMap"))


def test_listed_object_has_api_version_and_kind(cluster: Cluster, named: Names) -> None:
    made = cluster.create(config_map(named("a")))
    (listed,) = [o for o in cluster.list_objects("ConfigMap") if uid_of(o) == uid_of(made)]
    assert (listed["apiVersion"], listed["kind"]) == ("v1", "ConfigMap")


def test_list_of_one_namespace_has_no_objects_of_other_namespaces(cluster: Cluster, named: Names) -> None:
    made = cluster.create(config_map(named("a")))
    listed = list(cluster.list_objects("ConfigMap", "default"))
    assert uid_of(made) in map(uid_of, listed)
    assert {o["metadata"]["namespace"] for o in listed} == {"default"}
    assert list(cluster.list_objects("ConfigMap", "elsewhere")) == []


def test_get_of_a_missing_object_returns_none(cluster: Cluster, named: Names) -> None:
    assert cluster.get(Key("ConfigMap", "default", named("absent"))) is None


def test_second_object_with_the_same_name_is_refused(cluster: Cluster, named: Names) -> None:
    cluster.create(config_map(named("a")))
    with pytest.raises(AlreadyExistsError):
        cluster.create(config_map(named("a")))


def test_name_of_a_deleted_object_is_reused_with_another_uid(cluster: Cluster, named: Names) -> None:
    first = cluster.create(config_map(named("a")))
    cluster.delete(Key.of(first), uid_of(first))
    eventually(lambda: cluster.get(Key.of(first)) is None)
    assert uid_of(cluster.create(config_map(named("a")))) != uid_of(first)


def test_invalid_name_is_refused(cluster: Cluster) -> None:
    with pytest.raises(InvalidObjectError):
        cluster.create(config_map("Not_A_Name"))


def test_replace_requires_the_current_resource_version(cluster: Cluster, named: Names) -> None:
    made = cluster.create(config_map(named("a"), x="1"))
    newer = cluster.replace(made | {"data": {"x": "2"}})
    assert resource_version(newer) > resource_version(made)
    with pytest.raises(ConflictError):
        cluster.replace(made | {"data": {"x": "3"}})
    assert get(cluster, made)["data"] == {"x": "2"}


def test_replace_of_a_missing_object_raises_not_found(cluster: Cluster, named: Names) -> None:
    made = cluster.create(config_map(named("a")))
    cluster.delete(Key.of(made), uid_of(made))
    eventually(lambda: cluster.get(Key.of(made)) is None)
    with pytest.raises(NotFoundError):
        cluster.replace(made | {"data": {"x": "1"}})


def test_immutable_config_map_keeps_its_data(cluster: Cluster, named: Names) -> None:
    made = cluster.create(config_map(named("a"), x="1") | {"immutable": True})
    with pytest.raises(InvalidObjectError):
        cluster.replace(made | {"data": {"x": "2"}})
    with pytest.raises(InvalidObjectError):
        cluster.replace({field: value for field, value in made.items() if field != "immutable"})
    labelled = made | {"metadata": made["metadata"] | {"labels": {"team": "a"}}}
    assert cluster.replace(labelled)["metadata"]["labels"] == {"team": "a"}


def test_status_and_spec_are_written_separately(cluster: Cluster, named: Names) -> None:
    made = cluster.create(finetunejob(named("a")) | {"status": {"phase": "Forged"}})
    assert "status" not in made
    updated = cluster.patch_status(Key.of(made), {"phase": "Pending"}, version(made))
    assert updated["status"] == {"phase": "Pending"}
    assert updated["metadata"]["generation"] == 1
    suspended = updated | {"spec": updated["spec"] | {"suspend": True}, "status": {"phase": "Forged"}}
    changed = cluster.replace(suspended)
    assert changed["status"] == {"phase": "Pending"}
    assert changed["metadata"]["generation"] == 2


def test_status_is_replaced_as_a_whole(cluster: Cluster, named: Names) -> None:
    made = cluster.create(finetunejob(named("a")))
    first: Object = {"phase": "Training", "message": "m", "display": {"stage": "sft 1/1", "golden": "0.94"}}
    updated = cluster.patch_status(Key.of(made), first, version(made))
    second: Object = {"phase": "Training", "display": {"stage": "sft 1/1"}}
    updated = cluster.patch_status(Key.of(made), second, version(updated))
    assert updated["status"] == second
    assert get(cluster, made)["status"] == updated["status"]


def test_status_write_requires_the_current_resource_version(cluster: Cluster, named: Names) -> None:
    made = cluster.create(finetunejob(named("a")))
    cluster.patch_status(Key.of(made), {"phase": "Pending"}, version(made))
    with pytest.raises(ConflictError):
        cluster.patch_status(Key.of(made), {"phase": "Validating"}, version(made))


def test_status_write_of_a_missing_object_raises_not_found(cluster: Cluster, named: Names) -> None:
    with pytest.raises(NotFoundError):
        cluster.patch_status(Key("FineTuneJob", "default", named("absent")), {"phase": "Pending"}, "1")


def test_writing_the_same_status_keeps_the_version(cluster: Cluster, named: Names) -> None:
    made = cluster.create(finetunejob(named("a")))
    first = cluster.patch_status(Key.of(made), {"phase": "Pending"}, version(made))
    second = cluster.patch_status(Key.of(made), {"phase": "Pending"}, version(first))
    assert version(second) == version(first)


def test_delete_also_deletes_owned_objects(cluster: Cluster, named: Names) -> None:
    owner = cluster.create(finetunejob(named("a")))
    child = cluster.create(job(named("child"), owner))
    grandchild = cluster.create(config_map(named("grandchild"), child))
    stranger = cluster.create(config_map(named("stranger")))
    cluster.delete(Key.of(owner), uid_of(owner))
    eventually(
        lambda: all(cluster.get(Key.of(o)) is None for o in (owner, child, grandchild)), what="all are gone"
    )
    assert cluster.get(Key.of(stranger)) is not None


def test_child_created_after_its_owners_deletion_is_deleted(cluster: Cluster, named: Names) -> None:
    owner = cluster.create(finetunejob(named("a")))
    cluster.delete(Key.of(owner), uid_of(owner))
    eventually(lambda: cluster.get(Key.of(owner)) is None)
    child = cluster.create(config_map(named("child"), owner))
    eventually(lambda: cluster.get(Key.of(child)) is None, seconds=60)


def test_deleted_object_stays_until_its_finalizers_are_removed(cluster: Cluster, named: Names) -> None:
    made = cluster.create(finetunejob(named("a")))
    key, ours, theirs = Key.of(made), "tunegate.dev/files", "example.com/archive"
    held = cluster.patch_finalizers(key, [theirs], version(made))
    held = add_finalizer(cluster, held, ours)
    assert held["metadata"]["finalizers"] == [theirs, ours]
    assert held["metadata"]["generation"] == 1
    assert version(add_finalizer(cluster, held, ours)) == version(held)
    child = cluster.create(config_map(named("child"), held))
    cluster.delete(key, uid_of(held))
    deleted = get(cluster, held)
    assert deleted["metadata"]["deletionTimestamp"].endswith("Z")
    with pytest.raises(ConflictError):
        add_finalizer(cluster, deleted, "tunegate.dev/other")
    remove_finalizer(cluster, deleted, ours)
    remove_finalizer(cluster, deleted, ours)
    deleted = get(cluster, held)
    assert deleted["metadata"]["finalizers"] == [theirs]
    assert cluster.get(Key.of(child)) is not None
    remove_finalizer(cluster, deleted, theirs)
    eventually(lambda: cluster.get(key) is None and cluster.get(Key.of(child)) is None)
    remove_finalizer(cluster, deleted, theirs)
    with pytest.raises(NotFoundError):
        add_finalizer(cluster, held, ours)


def test_finalizers_are_changed_only_over_the_current_version(cluster: Cluster, named: Names) -> None:
    made = cluster.create(finetunejob(named("a")))
    cluster.patch_status(Key.of(made), {"phase": "Pending"}, version(made))
    with pytest.raises(ConflictError):
        cluster.patch_finalizers(Key.of(made), ["tunegate.dev/files"], version(made))
    with pytest.raises(ConflictError):
        add_finalizer(cluster, made, "tunegate.dev/files")
    with pytest.raises(NotFoundError):
        cluster.patch_finalizers(Key("FineTuneJob", "default", named("absent")), [], "1")


def test_delete_with_another_uid_does_nothing(cluster: Cluster, named: Names) -> None:
    made = cluster.create(config_map(named("a")))
    cluster.delete(Key.of(made), str(uuid.uuid4()))
    assert get(cluster, made) == made


def test_delete_of_a_missing_object_succeeds(cluster: Cluster, named: Names) -> None:
    absent = Key("ConfigMap", "default", named("absent"))
    cluster.delete(absent, str(uuid.uuid4()))
    assert cluster.get(absent) is None


def test_watch_sees_every_change_of_an_object_in_order(cluster: Cluster, named: Names) -> None:
    seen: list[WatchEvent] = []
    name = named("a")

    def note(event: WatchEvent) -> None:
        """Keep the events about this test's object. The listener also receives events about objects of other
        tests."""
        if event.obj["metadata"]["name"] == name:
            seen.append(event)

    cluster.watch(note)
    made = cluster.create(finetunejob(name))
    updated = cluster.patch_status(Key.of(made), {"phase": "Pending"}, version(made))
    cluster.delete(Key.of(made), uid_of(made))

    def of_this() -> list[WatchEvent]:
        return [event for event in seen if uid_of(event.obj) == uid_of(made)]

    eventually(lambda: len(of_this()) == 3)
    types = [event.type for event in of_this()]
    assert types in (["ADDED", "MODIFIED", "DELETED"], ["CHANGED", "CHANGED", "DELETED"])
    versions = [resource_version(event.obj) for event in of_this()]
    assert versions[:2] == [resource_version(made), resource_version(updated)]
    assert versions == sorted(set(versions))
    assert all(event.obj["kind"] == "FineTuneJob" for event in of_this())


def test_changing_a_returned_object_does_not_change_the_cluster(cluster: Cluster, named: Names) -> None:
    made = cluster.create(config_map(named("a"), x="1"))
    made["data"]["x"] = "2"
    next(iter(cluster.list_objects("ConfigMap"))).setdefault("data", {})["x"] = "3"
    assert get(cluster, made)["data"] == {"x": "1"}


def test_repeated_event_is_counted_and_names_its_reporter(cluster: Cluster, named: Names) -> None:
    made = cluster.create(finetunejob(named("a")))
    for count in (1, 1, 5):
        cluster.record_event(made, "Warning", "Regressing", "golden 88/100, best 94/100: -6.0 points", count)
    (event,) = cluster.list_events("default", uid_of(made))
    assert event["count"] == 7
    assert event["firstTimestamp"] <= event["lastTimestamp"]
    assert (event["reportingComponent"], event["source"]) == ("tunegate", {"component": "tunegate"})
    assert event["reportingInstance"]


def test_create_ours_returns_an_existing_child_only_to_its_owner(cluster: Cluster, named: Names) -> None:
    owner = cluster.create(finetunejob(named("a")))
    made = create_ours(cluster, job(named("child"), owner))
    assert uid_of(create_ours(cluster, job(named("child"), owner))) == uid_of(made)
    other = cluster.create(finetunejob(named("b")))
    with pytest.raises(AlreadyExistsError, match="belongs to FineTuneJob"):
        create_ours(cluster, job(named("child"), other))


def test_apply_writes_only_if_the_content_changed(cluster: Cluster, named: Names) -> None:
    owner = cluster.create(finetunejob(named("a")))
    first = apply(cluster, config_map(named("results"), owner, x="1"))
    assert version(apply(cluster, config_map(named("results"), owner, x="1"))) == version(first)
    second = apply(cluster, config_map(named("results"), owner, x="2"), first)
    assert second["data"] == {"x": "2"}
    with pytest.raises(ConflictError):
        apply(cluster, config_map(named("results"), owner, x="3"), first)


def test_apply_keeps_labels_annotations_and_finalizers_set_by_users(cluster: Cluster, named: Names) -> None:
    owner = cluster.create(finetunejob(named("a")))
    first = apply(cluster, config_map(named("results"), owner, x="1"))
    theirs = {
        "labels": first["metadata"]["labels"] | {"team": "a"},
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "note": "b"},
        "finalizers": ["example.com/keep"],
    }
    cluster.replace(first | {"metadata": first["metadata"] | theirs})
    second = apply(cluster, config_map(named("results"), owner, x="2"), get(cluster, first))
    assert second["data"] == {"x": "2"}
    assert theirs.items() <= second["metadata"].items()
    cluster.replace(second | {"metadata": second["metadata"] | {"finalizers": []}})


def test_cache_returns_current_config_map_content(cluster: Cluster, named: Names) -> None:
    cache = Cache(cluster.get)
    cluster.watch(cache.apply)
    made = cluster.create(config_map(named("a"), x="1"))
    key = Key.of(made)
    eventually(lambda: cache.has(key))
    assert cache.by_uid(uid_of(made)) == prune(made)[0]
    assert cache.get(key) == made
    changed = cluster.replace(made | {"data": {"x": "2"}})
    eventually(lambda: resource_version(cache.by_uid(uid_of(made)) or made) == resource_version(changed))
    assert cache.get(key) == changed
    cluster.delete(key, uid_of(made))
    eventually(lambda: not cache.has(key))
    assert cache.get(key) is None


def test_resync_finds_existing_config_maps(cluster: Cluster, named: Names) -> None:
    made = cluster.create(config_map(named("a"), x="1"))
    cache = Cache(cluster.get)
    list(cache.resync("ConfigMap", cluster.list_objects("ConfigMap"), cache.mark()))
    assert cache.by_uid(uid_of(made)) == prune(made)[0]
    assert cache.get(Key.of(made)) == made


def test_events_about_an_object_can_be_listed(cluster: Cluster, named: Names) -> None:
    made, other = cluster.create(finetunejob(named("a"))), cluster.create(finetunejob(named("b")))
    cluster.record_event(made, "Warning", "Regressing", "golden 88/100, best 94/100: -6.0 points")
    cluster.record_event(made, "Normal", "Training", "training")
    cluster.record_event(other, "Normal", "Pending", "waiting")

    def events_about(obj: Object, namespace: str = "default") -> set[tuple[str, str, str]]:
        found = cluster.list_events(namespace, uid_of(obj))
        return {(event["type"], event["reason"], event["message"]) for event in found}

    assert events_about(made) == {
        ("Warning", "Regressing", "golden 88/100, best 94/100: -6.0 points"),
        ("Normal", "Training", "training"),
    }
    assert events_about(other) == {("Normal", "Pending", "waiting")}
    assert events_about(made, "kube-system") == set()
    assert cluster.list_events("default", str(uuid.uuid4())) == []
