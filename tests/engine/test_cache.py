"""The cache ends up with the cluster's state, whatever the order of events, lists and answers to requests."""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tunegate_api.validation.spec_size import MAX_SPEC_LEVELS
from tunegate_operator.engine.cache import Cache
from tunegate_operator.engine.cluster import ClusterError, Key, Object, WatchEvent
from tunegate_operator.engine.objects import resource_version, uid_of


def make(name: str, uid: str, version: int, owner: str | None = None, kind: str = "Job") -> Object:
    metadata: Object = {"name": name, "namespace": "default", "uid": uid, "resourceVersion": str(version)}
    if owner:
        reference = {"kind": "FineTuneJob", "name": f"name-of-{owner}", "uid": owner, "controller": True}
        metadata["ownerReferences"] = [reference]
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata}


def make_owner(uid: str, namespace: str = "default") -> Object:
    metadata = {"name": f"name-of-{uid}", "namespace": namespace, "uid": uid, "resourceVersion": "1"}
    return {"apiVersion": "v1", "kind": "FineTuneJob", "metadata": metadata}


def cached(cache: Cache) -> dict[str, int]:
    return {uid_of(obj): resource_version(obj) for obj in cache.of_kind("Job", "default")}


def resync(cache: Cache, listed: Iterable[Object], since: int) -> list[WatchEvent]:
    return list(cache.resync("Job", listed, since))


def test_older_event_does_not_undo_own_write() -> None:
    cache = Cache()
    cache.put(make("a", "1", 7))
    assert not cache.apply(WatchEvent("MODIFIED", make("a", "1", 5)))
    assert cached(cache) == {"1": 7}


def test_watch_event_of_own_write_triggers_a_new_decision() -> None:
    cache = Cache()
    cache.put(make("a", "1", 7))
    assert cache.apply(WatchEvent("MODIFIED", make("a", "1", 7)))


def test_list_entry_with_the_cached_version_changes_nothing() -> None:
    cache = Cache()
    assert cache.apply(WatchEvent("ADDED", make("a", "1", 5)))
    assert resync(cache, [make("a", "1", 5)], cache.mark()) == []
    assert resync(cache, [make("a", "1", 6)], cache.mark())


def test_own_write_seen_first_in_a_list_triggers_one_decision() -> None:
    """A watch that starts again after an outage does not report what the operator wrote meanwhile. The list
    at its start does."""
    cache = Cache()
    since = cache.mark()
    cache.put(make("a", "1", 7))
    assert not cache.apply(WatchEvent("MODIFIED", make("a", "1", 5)))
    assert resync(cache, [make("a", "1", 5)], since) == []
    assert resync(cache, [make("a", "1", 7)], cache.mark())
    assert resync(cache, [make("a", "1", 7)], cache.mark()) == []


def test_late_write_answer_does_not_restore_a_deleted_object() -> None:
    cache = Cache()
    cache.put(make("a", "1", 7))
    cache.apply(WatchEvent("DELETED", make("a", "1", 9)))
    assert not cache.put(make("a", "1", 8))
    assert cached(cache) == {}


def test_object_with_a_restored_label_is_cached_again() -> None:
    cache = Cache()
    cache.put(make("a", "1", 7, owner="x"))
    assert cache.apply(WatchEvent("DELETED", make("a", "1", 8, owner="x")))  # it lost its label
    assert cache.children(make_owner("x"), "Job") == []
    assert cache.apply(WatchEvent("ADDED", make("a", "1", 9, owner="x")))
    assert [uid_of(child) for child in cache.children(make_owner("x"), "Job")] == ["1"]
    assert cache.apply(WatchEvent("DELETED", make("a", "1", 10, owner="x"))), "the second loss is new, too"
    assert cached(cache) == {}


def test_object_read_at_its_deletion_event_version_is_cached_again() -> None:
    cache = Cache()
    cache.put(make("a", "1", 7))
    cache.apply(WatchEvent("DELETED", make("a", "1", 9)))
    assert cache.put(make("a", "1", 9)), "a real deletion is later than every state of the object"
    assert cached(cache) == {"1": 9}


def test_late_deletion_event_does_not_drop_a_newer_state() -> None:
    cache = Cache()
    cache.put(make("a", "1", 9))
    assert not cache.apply(WatchEvent("DELETED", make("a", "1", 8)))
    assert cached(cache) == {"1": 9}


def test_object_missing_from_a_list_is_cached_again_when_read() -> None:
    cache = Cache()
    cache.put(make("a", "1", 7))
    resync(cache, [], cache.mark())
    assert not cache.apply(WatchEvent("MODIFIED", make("a", "1", 6)))
    assert cache.put(make("a", "1", 7)), "it lost its label before, as the list shows"
    assert cached(cache) == {"1": 7}


def test_late_watch_event_does_not_restore_an_object_not_found() -> None:
    cache = Cache()
    cache.put(make("a", "1", 7))
    cache.remove("1")
    assert not cache.apply(WatchEvent("MODIFIED", make("a", "1", 8)))
    assert not cache.apply(WatchEvent("DELETED", make("a", "1", 9)))
    assert cached(cache) == {}


def test_versions_are_compared_as_numbers() -> None:
    cache = Cache()
    cache.put(make("a", "1", 9))
    cache.apply(WatchEvent("MODIFIED", make("a", "1", 10)))
    assert cached(cache) == {"1": 10}


def test_reused_name_refers_to_the_newer_object() -> None:
    cache = Cache()
    cache.put(make("a", "old", 3, owner="x"))
    cache.apply(WatchEvent("ADDED", make("a", "new", 5, owner="y")))
    cache.apply(WatchEvent("MODIFIED", make("a", "old", 4, owner="x")))
    found = cache.get(Key("Job", "default", "a"))
    assert found is not None
    assert uid_of(found) == "new"
    assert cache.children(make_owner("x"), "Job") == []


def test_resync_finds_a_deletion_that_the_watch_missed() -> None:
    cache = Cache()
    cache.put(make("a", "1", 1, owner="x"))
    missed = resync(cache, [], cache.mark())
    assert [(event.type, uid_of(event.obj)) for event in missed] == [("DELETED", "1")]
    assert cache.children(make_owner("x"), "Job") == []


def test_resync_keeps_an_object_created_after_the_list_was_taken() -> None:
    cache = Cache()
    since = cache.mark()
    listed: list[Object] = []
    cache.apply(WatchEvent("ADDED", make("a", "1", 1)))
    assert resync(cache, listed, since) == []
    assert cached(cache) == {"1": 1}


def test_resync_without_missed_changes_yields_no_events() -> None:
    cache = Cache()
    cache.apply(WatchEvent("ADDED", make("a", "1", 1)))
    cache.put(make("b", "2", 2, kind="ConfigMap"))
    assert resync(cache, [make("a", "1", 1)], cache.mark()) == []
    assert cache.get(Key("ConfigMap", "default", "b")) is not None


def test_resync_updates_objects_after_a_crd_drops_a_field() -> None:
    """When a CRD loses a field, the API server serves objects without this field. Their resourceVersion stays
    the same."""
    cache = Cache()
    job = make("a", "1", 1, kind="FineTuneJob")
    cache.put(job | {"spec": {"mixing": "even", "suspend": False}})
    served = job | {"spec": {"suspend": False}}
    assert list(cache.resync("FineTuneJob", [served], cache.mark())) == [WatchEvent("MODIFIED", served)]
    assert cache.get(Key("FineTuneJob", "default", "a")) == served
    assert list(cache.resync("FineTuneJob", [served], cache.mark())) == []


def test_resync_reports_a_recreated_object_as_deleted_and_added() -> None:
    cache = Cache()
    cache.put(make("a", "old", 1))
    missed = resync(cache, [make("a", "new", 2)], cache.mark())
    assert [(event.type, uid_of(event.obj)) for event in missed] == [("DELETED", "old"), ("ADDED", "new")]


def test_interrupted_list_reports_additions_but_no_deletions() -> None:
    cache = Cache()
    cache.put(make("a", "1", 1))

    def broken() -> Iterator[Object]:
        yield make("b", "2", 2)
        raise ClusterError("the continuation expired")

    missed: list[WatchEvent] = []
    with pytest.raises(ClusterError):
        missed.extend(cache.resync("Job", broken(), cache.mark()))
    assert [uid_of(event.obj) for event in missed] == ["2"]
    assert cached(cache) == {"1": 1, "2": 2}


def test_resync_of_one_namespace_does_not_affect_another() -> None:
    cache = Cache()
    here, there = make("a", "1", 1), make("a", "2", 2)
    there["metadata"]["namespace"] = "elsewhere"
    cache.put(here)
    cache.put(there)
    (gone,) = cache.resync("Job", [], cache.mark(), "elsewhere")
    assert (gone.type, uid_of(gone.obj)) == ("DELETED", "2")
    assert cached(cache) == {"1": 1}


def test_read_returns_a_copy() -> None:
    cache = Cache()
    made = make("a", "1", 1) | {"data": {"text": "größer 🙂"}}
    cache.put(made)
    read = cache.get(Key.of(made))
    assert read == made
    read.clear()
    assert cache.get(Key.of(made)) == made


def test_deeply_nested_object_is_cached() -> None:
    cache, deep = Cache(), {}
    for _ in range(MAX_SPEC_LEVELS - 1):
        deep = {"deeper": deep}
    made = make("a", "1", 1, kind="FineTuneJob") | {"spec": deep}
    cache.put(made)
    assert cache.get(Key.of(made)) == made


def test_objects_are_found_by_the_objects_that_they_reference() -> None:
    cache = Cache()
    cache.index_references(lambda job: [Key("EvalGate", "default", each) for each in job["spec"]])

    def put(name: str, version: int, *gates: str) -> None:
        cache.put(make(name, name, version, kind="FineTuneJob") | {"spec": list(gates)})

    def naming(gate: str) -> list[str]:
        return [key.name for key in cache.referrers(Key("EvalGate", "default", gate), "FineTuneJob")]

    put("second", 2, "golden")
    put("first", 1, "golden", "safety")
    assert naming("golden") == ["second", "first"]
    put("second", 3, "safety")
    put("first", 4, "safety")
    assert naming("golden") == []
    cache.remove("second")
    assert naming("safety") == ["first"]


def test_indexed_objects_are_found_in_the_order_of_positions() -> None:
    cache = Cache()
    gate = Key("EvalGate", "default", "golden")
    cache.add_index(lambda obj: [(gate, obj["spec"])] if obj["kind"] == "FineTuneJob" else [])

    def put(name: str, version: int, ended: str) -> None:
        cache.put(make(name, name, version, kind="FineTuneJob") | {"spec": ended})

    def indexed(after: str = "") -> list[tuple[str, str]]:
        return [(key.name, position) for key, position in cache.indexed(gate, "FineTuneJob", after)]

    put("late", 1, "12:00")
    put("early", 2, "10:00")
    put("same", 3, "10:00")
    cache.put(make("gate", "gate", 4, kind="EvalGate") | {"spec": "11:00"})
    assert indexed() == [("early", "10:00"), ("same", "10:00"), ("late", "12:00")]
    assert indexed(after="10:00") == [("late", "12:00")]
    put("early", 5, "13:00")
    cache.remove("same")
    assert indexed() == [("late", "12:00"), ("early", "13:00")]
    cache.remove("late")
    cache.remove("early")
    assert indexed() == []


def test_index_must_be_added_to_an_empty_cache() -> None:
    cache = Cache()
    cache.put(make("a", "1", 1))
    with pytest.raises(RuntimeError, match="would be missing"):
        cache.add_index(lambda _: [])


def test_references_include_those_before_the_last_change() -> None:
    cache = Cache()
    cache.index_references(lambda job: [Key("EvalGate", "default", each) for each in job["spec"]])

    def referenced(version: int, *gates: str, uid: str = "1") -> list[str]:
        job = make("a", uid, version, kind="FineTuneJob") | {"spec": list(gates)}
        cache.put(job)
        return [key.name for key in cache.references(job)]

    assert referenced(1, "golden") == ["golden"]
    assert referenced(2) == ["golden"]
    assert referenced(2) == ["golden"], "the same state once more, as from a watch after a request"
    assert referenced(3, "safety") == ["safety"]
    assert referenced(4, "golden", uid="2") == ["golden", "safety"], "recreated with the same name"
    assert [key.name for key in cache.referrers(Key("EvalGate", "default", "safety"), "FineTuneJob")] == []


def test_references_must_be_indexed_from_the_beginning() -> None:
    cache = Cache()
    with pytest.raises(LookupError, match="call index_references"):
        cache.referrers(Key("EvalGate", "default", "golden"), "FineTuneJob")
    cache.put(make("a", "1", 1))
    with pytest.raises(RuntimeError, match="would be missing"):
        cache.index_references(lambda _: [])


def test_list_entry_with_other_fields_at_same_version_is_changed() -> None:
    """If the CRD changed, the API server serves the same version with other fields."""
    cache = Cache()
    cache.apply(WatchEvent("ADDED", make("a", "1", 5)))
    changed = make("a", "1", 5) | {"status": {"phase": "Pending"}}
    assert resync(cache, [changed], cache.mark())


def test_child_moves_to_its_new_owner() -> None:
    cache = Cache()
    cache.put(make("a", "1", 1, owner="x"))
    cache.put(make("a", "1", 2, owner="y"))
    assert cache.children(make_owner("x"), "Job") == []
    assert [uid_of(child) for child in cache.children(make_owner("y"), "Job")] == ["1"]


def test_finetunejob_of_a_pod_is_known_without_its_job() -> None:
    cache = Cache()
    pod = make("p", "pod", 3, kind="Pod")
    pod["metadata"]["ownerReferences"] = [{"kind": "Job", "name": "a", "uid": "job", "controller": True}]
    cache.put(make("a", "job", 2, owner="ftj"))
    cache.put(pod)
    cache.apply(WatchEvent("DELETED", make("a", "job", 4, owner="ftj")))
    assert [owner.uid for owner in cache.owners(pod)] == ["job", "ftj"]


def test_owner_of_deleted_child_job_stays_hidden_from_other_namespaces() -> None:
    cache = Cache()
    cache.put(make_owner("ftj"))
    cache.put(make("a", "job", 2, owner="ftj"))
    cache.apply(WatchEvent("DELETED", make("a", "job", 4, owner="ftj")))
    pod = make("p", "pod", 5, kind="Pod")
    pod["metadata"]["namespace"] = "attacker"
    pod["metadata"]["ownerReferences"] = [{"kind": "Job", "name": "a", "uid": "job", "controller": True}]
    assert "ftj" not in [found.uid for found in cache.owners(pod)]


@pytest.mark.parametrize(
    ("field", "value"), [("namespace", "attacker"), ("name", "another"), ("kind", "EvalGate")]
)
def test_owner_reference_with_only_a_matching_uid_is_ignored(field: str, value: str) -> None:
    cache, owner = Cache(), make_owner("ftj")
    cache.put(owner)
    child = make("a", "job", 2, owner="ftj")
    if field == "namespace":
        child["metadata"]["namespace"] = value
    else:
        child["metadata"]["ownerReferences"][0][field] = value
    pod = make("p", "pod", 3, kind="Pod")
    pod["metadata"]["namespace"] = child["metadata"]["namespace"]
    pod["metadata"]["ownerReferences"] = [{"kind": "Job", "name": "a", "uid": "job", "controller": True}]
    for obj in (child, pod):
        cache.put(obj)
    assert cache.children(owner, "Job") == []
    assert [found.uid for found in cache.owners(pod)] == ["job"]
    cache.apply(WatchEvent("DELETED", child | {"metadata": child["metadata"] | {"resourceVersion": "4"}}))
    assert "ftj" not in [found.uid for found in cache.owners(pod)]


class Interleavings(RuleBasedStateMachine):
    """Random interleavings of changes in a cluster with late lists, late answers to writes, and a late watch
    that loses events.

    The watch and the lists have a label selector, and objects may lose the label."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = Cache()
        self.truth: dict[str, Object] = {}
        self.unlabelled: dict[str, Object] = {}
        self.version = 0
        self.uids = 0
        self.watch: list[WatchEvent] = []
        self.answers: list[Object] = []
        self.lists: list[tuple[list[Object], int]] = []

    def _next(self) -> int:
        self.version += 1
        return self.version

    @rule(name=st.sampled_from("abc"), owner=st.sampled_from([None, "x", "y"]), ours=st.booleans())
    def create(self, name: str, owner: str | None, ours: bool) -> None:
        if name in self.truth or name in self.unlabelled:
            return
        self.uids += 1
        obj = make(name, f"uid-{self.uids}", self._next(), owner)
        self.truth[name] = obj
        self.watch.append(WatchEvent("ADDED", obj))
        if ours:
            self.answers.append(obj)

    @rule(name=st.sampled_from("abc"), ours=st.booleans())
    def modify(self, name: str, ours: bool) -> None:
        if name in self.truth:
            metadata = self.truth[name]["metadata"] | {"resourceVersion": str(self._next())}
            obj = self.truth[name] | {"metadata": metadata}
            self.truth[name] = obj
            self.watch.append(WatchEvent("MODIFIED", obj))
            if ours:
                self.answers.append(obj)

    @rule(name=st.sampled_from("abc"))
    def delete(self, name: str) -> None:
        if name in self.truth:
            obj = self.truth.pop(name)
            metadata = obj["metadata"] | {"resourceVersion": str(self._next())}
            self.watch.append(WatchEvent("DELETED", obj | {"metadata": metadata}))

    @rule(name=st.sampled_from("abc"), ours=st.booleans())
    def remove_the_label(self, name: str, ours: bool) -> None:
        """The watch reports the object's last labelled state, with the version of the change."""
        if name in self.truth:
            obj = self.truth.pop(name)
            metadata = obj["metadata"] | {"resourceVersion": str(self._next())}
            self.unlabelled[name] = obj | {"metadata": metadata}
            self.watch.append(WatchEvent("DELETED", self.unlabelled[name]))
            if ours:
                self.answers.append(self.unlabelled[name])

    @rule(name=st.sampled_from("abc"))
    def restore_the_label(self, name: str) -> None:
        if name in self.unlabelled:
            obj = self.unlabelled.pop(name)
            metadata = obj["metadata"] | {"resourceVersion": str(self._next())}
            self.truth[name] = obj | {"metadata": metadata}
            self.watch.append(WatchEvent("ADDED", self.truth[name]))

    @rule(name=st.sampled_from("abc"))
    def delete_without_the_label(self, name: str) -> None:
        """Delete an object that has lost its label. No watch reports the deletion."""
        self.unlabelled.pop(name, None)

    @rule()
    def the_watch_delivers(self) -> None:
        if self.watch:
            self.cache.apply(self.watch.pop(0))

    @rule()
    def the_watch_loses_an_event(self) -> None:
        if self.watch:
            self.watch.pop(0)

    @rule(data=st.data())
    def an_answer_arrives(self, data: Any) -> None:
        if self.answers:
            self.cache.put(self.answers.pop(data.draw(st.integers(0, len(self.answers) - 1))))

    @rule()
    def a_list_is_taken(self) -> None:
        since = self.cache.mark()
        self.lists.append((list(self.truth.values()), since))

    @rule(data=st.data())
    def a_list_arrives(self, data: Any) -> None:
        if self.lists:
            resync(self.cache, *self.lists.pop(data.draw(st.integers(0, len(self.lists) - 1))))

    @invariant()
    def the_indexes_agree_with_the_objects(self) -> None:
        objects = self.cache.of_kind("Job", "default")
        assert len({obj["metadata"]["name"] for obj in objects}) == len(objects), "one name, two objects"
        for name in ("x", "y"):
            children = {uid_of(obj) for obj in self.cache.children(make_owner(name), "Job")}
            assert children == {
                uid_of(obj)
                for obj in objects
                if any(r["uid"] == name for r in obj["metadata"].get("ownerReferences", ()))
            }
        for obj in objects:
            assert self.cache.get(Key.of(obj)) == obj

    @invariant()
    def next_resync_makes_the_cache_correct(self) -> None:
        probe = Cache()
        for obj in self.cache.of_kind("Job", "default"):
            probe.put(obj)
        resync(probe, list(self.truth.values()), probe.mark())
        assert cached(probe) == {uid_of(o): resource_version(o) for o in self.truth.values()}

    def teardown(self) -> None:
        """Deliver all events, answers and lists that are late, and then a current list."""
        for event in self.watch:
            self.cache.apply(event)
        for answer in self.answers:
            self.cache.put(answer)
        for objects, since in self.lists:
            resync(self.cache, objects, since)
        resync(self.cache, list(self.truth.values()), self.cache.mark())
        assert cached(self.cache) == {uid_of(o): resource_version(o) for o in self.truth.values()}


TestInterleavings = Interleavings.TestCase
