"""Objects on disk are readable, complete, and unchanged after a restart."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from support.clock import FakeClock
from tunegate_client.laptop.object_folder import ObjectFolder, to_yaml
from tunegate_client.laptop.store import KEPT_EVENTS, ObjectStore
from tunegate_operator.engine.apply import create_ours
from tunegate_operator.engine.cluster import AlreadyExistsError, ClusterError, InvalidObjectError, Key, Object
from tunegate_operator.engine.objects import uid_of
from tunegate_operator.engine.owners import owner_reference


def config_map(name: str = "cm", **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def gate(name: str = "gate") -> Object:
    return {"apiVersion": "tunegate.dev/v1alpha2", "kind": "EvalGate", "metadata": {"name": name}, "spec": {}}


def open_store(folder: Path) -> ObjectStore:
    return ObjectStore(FakeClock(), ObjectFolder(folder))


def test_restart_loads_every_object_unchanged(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    made = store.create(gate())
    made = store.patch_status(Key.of(made), {"phase": "Ready"}, made["metadata"]["resourceVersion"])
    store.create(config_map())
    again = open_store(tmp_path)
    assert again.get(Key.of(made)) == made
    newer = again.create(config_map("later"))
    assert int(newer["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])


def test_deleted_object_stays_deleted(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    made = store.create(config_map())
    store.delete(Key.of(made), uid_of(made))
    assert open_store(tmp_path).list_objects("ConfigMap") == []


def test_orphaned_children_are_deleted_after_a_crash(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    owner = store.create(gate())
    child = config_map()
    child["metadata"]["ownerReferences"] = [owner_reference(owner)]
    store.create(child)
    (tmp_path / "EvalGate" / "default" / "gate.yaml").unlink()
    assert open_store(tmp_path).list_objects("ConfigMap") == []


def test_interrupted_write_is_removed_at_start(tmp_path: Path) -> None:
    open_store(tmp_path).create(config_map())
    half = tmp_path / "ConfigMap" / "default" / ".cm.yaml.tmp"
    half.write_text("apiVersion: v1\nki")
    assert len(open_store(tmp_path).list_objects("ConfigMap")) == 1


def test_invalid_object_file_is_named_in_the_error(tmp_path: Path) -> None:
    open_store(tmp_path).create(config_map())
    file = tmp_path / "ConfigMap" / "default" / "cm.yaml"
    file.write_text("[not, an, object]")
    with pytest.raises(ClusterError, match=r"cm\.yaml"):
        open_store(tmp_path)


def test_failed_write_changes_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    made = store.create(config_map(x="1"))
    folder = tmp_path / "ConfigMap" / "default"
    (folder / ".cm.yaml.tmp").mkdir()  # the next write fails here
    with pytest.raises(ClusterError, match="cannot be written"):
        store.replace(made | {"data": {"x": "2"}})
    held = store.get(Key.of(made))
    assert held is not None
    assert held["data"] == {"x": "1"}


def test_object_files_are_readable_yaml() -> None:
    obj: Object = {
        "status": {"phase": "Ready"},
        "data": {"train.jsonl": '{"a": 1}\n{"ä": 2}\n', "when": "2026-01-01T00:00:00Z", "yes": "no"},
        "metadata": {"name": "x", "labels": {"a": "1"}},
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "spec": {"again": [1, 2], "same": [1, 2]},
    }
    shared = obj["spec"]["again"]
    obj["spec"]["same"] = shared
    assert to_yaml(obj) == (
        "apiVersion: v1\n"
        "kind: ConfigMap\n"
        "metadata:\n"
        "  name: x\n"
        "  labels:\n"
        "    a: '1'\n"
        "spec:\n"
        "  again:\n"
        "  - 1\n"
        "  - 2\n"
        "  same:\n"
        "  - 1\n"
        "  - 2\n"
        "data:\n"
        "  train.jsonl: |\n"
        '    {"a": 1}\n'
        '    {"ä": 2}\n'
        "  when: '2026-01-01T00:00:00Z'\n"
        "  'yes': 'no'\n"
        "status:\n"
        "  phase: Ready\n"
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(content=st.dictionaries(st.text(), JSON, max_size=3))
def test_any_json_value_survives_a_round_trip_to_disk(content: Object) -> None:
    assert yaml.safe_load(to_yaml({"spec": content})) == {"spec": content}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../etc"}, "metadata.name"),
        ({"name": "Upper"}, "metadata.name"),
        ({"namespace": "a/b"}, "metadata.namespace"),
        ({"labels": {"a": "x" * 64}}, "label value"),
        ({"labels": {"a": "no spaces"}}, "label value"),
        ({"annotations": {"a": "x" * 300_000}}, "256 KiB"),
    ],
)
def test_invalid_metadata_is_refused(change: Object, message: str) -> None:
    store = ObjectStore(FakeClock())
    obj = config_map()
    obj["metadata"] |= change
    with pytest.raises(InvalidObjectError, match=message):
        store.create(obj)


def test_config_map_above_1_mib_is_refused() -> None:
    with pytest.raises(InvalidObjectError, match="1 MiB"):
        ObjectStore(FakeClock()).create(config_map(x="y" * (1024 * 1024 + 1)))


def test_events_are_counted_and_the_oldest_dropped(tmp_path: Path) -> None:
    clock = FakeClock()
    store = ObjectStore(clock, ObjectFolder(tmp_path))
    regarding = store.create(gate())
    for number in range(KEPT_EVENTS + 5):
        clock.advance(1)
        store.record_event(regarding, "Normal", "Trained", f"step {number}")
        store.record_event(regarding, "Warning", "Regressing", "golden -6.0 points")
    for kept in (store, ObjectStore(clock, ObjectFolder(tmp_path))):
        events = {event["message"]: event for event in kept.list_objects("Event")}
        assert len(events) == KEPT_EVENTS
        assert events["golden -6.0 points"]["count"] == KEPT_EVENTS + 5
        assert "step 0" not in events
        assert f"step {KEPT_EVENTS + 4}" in events


def test_name_of_a_terminating_object_is_not_reused() -> None:
    store = ObjectStore(FakeClock(), graceful=("Pod",))
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {}}
    made = create_ours(store, pod)
    store.delete(Key.of(made), uid_of(made))
    with pytest.raises(AlreadyExistsError, match="still being deleted"):
        create_ours(store, pod)


def test_deleted_pod_stays_until_it_is_finalized() -> None:
    store = ObjectStore(FakeClock(), graceful=("Pod",))
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {}}
    made = store.create(pod)
    store.delete(Key.of(made), uid_of(made))
    held = store.get(Key.of(made))
    assert held is not None
    assert held["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:30Z"
    store.finalize(Key.of(made), uid_of(made))
    assert store.get(Key.of(made)) is None
