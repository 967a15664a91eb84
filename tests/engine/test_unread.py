"""A watch reports the metadata of changed objects, and workers read the objects."""

from collections.abc import Callable, Iterable
from datetime import datetime

from support.clock import FakeClock
from support.fake_cluster import FakeCluster
from support.function_controller import FunctionController
from tunegate_operator.engine.cache import Cache
from tunegate_operator.engine.cluster import Key, Object, UnavailableError, WatchEvent
from tunegate_operator.engine.controller import Decision, View
from tunegate_operator.engine.objects import uid_of
from tunegate_operator.engine.queue import WorkQueue
from tunegate_operator.engine.reconcile import Reconciler

KEY = Key("FineTuneJob", "default", "a")


def job(name: str = "a", namespace: str = "default", gate: str = "golden") -> Object:
    metadata = {"name": name, "namespace": namespace}
    spec = {"gates": [{"name": gate}]}
    return {"apiVersion": "tunegate.dev/v1alpha2", "kind": "FineTuneJob", "metadata": metadata, "spec": spec}


class StatusController(FunctionController):
    """Decides a status with the gate that the spec names. A changed job concerns the job of the same name in
    the namespace "watching"."""

    def __init__(self) -> None:
        super().__init__(self._with_gate)
        self.decided: list[Key] = []

    def _with_gate(self, obj: Object, view: View, now: datetime) -> Decision:
        del view, now
        self.decided.append(Key.of(obj))
        return Decision({"message": obj["spec"]["gates"][0]["name"]})

    def concerns(self, changed: Object, view: View) -> Iterable[Key]:
        del view
        assert "spec" in changed, "it has only the metadata"
        return [Key("FineTuneJob", "watching", changed["metadata"]["name"])]


class ReadCluster(FakeCluster):
    """A cluster that notes what the operator reads. ``answer`` replaces its answers."""

    def __init__(self, answer: Callable[[FakeCluster, Key], Object | None]) -> None:
        super().__init__(FakeClock())
        self.reads: list[Key] = []
        self._answer = answer

    def get(self, key: Key) -> Object | None:
        self.reads.append(key)
        return self._answer(self, key)


class Operator:
    """One operator process on a cluster whose watch reports metadata. ``read`` replaces its reads."""

    def __init__(self, read: Callable[[FakeCluster, Key], Object | None] = FakeCluster.get) -> None:
        self.cluster = ReadCluster(read)
        self.reads = self.cluster.reads
        self.queue = WorkQueue(self.cluster.clock)
        self.cache = Cache()
        self.controller = StatusController()
        self.reconciler = Reconciler(
            self.cluster, self.cache, self.queue, [self.controller], self.cluster.clock
        )
        self.cluster.watch(self.reconciler.handle)

    def message(self) -> str:
        found = self.cluster.as_user.get(KEY)
        assert found is not None
        message: str = found.get("status", {}).get("message", "")
        return message


def test_new_object_is_read_once_but_not_its_status():
    operator = Operator()
    operator.cluster.as_user.create(job())
    operator.reconciler.run_ready()
    assert operator.message() == "golden"
    assert operator.reads == [KEY]


def test_changed_spec_is_read_again():
    operator = Operator()
    operator.cluster.as_user.create(job())
    operator.reconciler.run_ready()
    current = operator.cluster.as_user.get(KEY)
    assert current is not None
    operator.cluster.as_user.replace(current | {"spec": job(gate="strict")["spec"]})
    operator.reconciler.run_ready()
    assert operator.message() == "strict"
    assert operator.reads == [KEY, KEY]


def test_objects_are_read_in_the_turns_of_their_namespaces():
    operator = Operator()
    for n in range(20):
        operator.cluster.as_user.create(job(f"large-{n}", "noisy"))
    operator.cluster.as_user.create(job())
    operator.reconciler.run_ready(limit=2)
    assert KEY in operator.reads


def test_failed_read_is_repeated_until_it_succeeds():
    failures = [UnavailableError("no answer")] * 3

    def read(cluster: FakeCluster, key: Key) -> Object | None:
        if failures:
            raise failures.pop()
        return FakeCluster.get(cluster, key)

    operator = Operator(read)
    operator.cluster.as_user.create(job())
    for _ in range(4):
        assert operator.message() == ""
        operator.reconciler.run_ready()
        operator.cluster.clock.advance(20)
    assert operator.message() == "golden"
    assert operator.reads == [KEY] * 4


def test_change_that_concerns_other_objects_is_known_after_the_read():
    operator = Operator()
    operator.cluster.as_user.create(job(namespace="watching"))
    operator.reconciler.run_ready()
    operator.controller.decided.clear()
    operator.cluster.as_user.create(job())
    operator.reconciler.run_ready()
    assert Key("FineTuneJob", "watching", "a") in operator.controller.decided


def test_deletion_reports_the_last_known_spec():
    operator = Operator()
    made = operator.cluster.as_user.create(job())
    operator.cluster.as_user.create(job(namespace="watching"))
    operator.reconciler.run_ready()
    operator.controller.decided.clear()
    operator.cluster.as_user.delete(KEY, uid_of(made))
    operator.reconciler.run_ready()
    assert operator.controller.decided == [Key("FineTuneJob", "watching", "a")]


def test_deleted_object_is_not_read():
    operator = Operator()
    made = operator.cluster.as_user.create(job())
    operator.cluster.as_user.delete(KEY, uid_of(made))
    operator.reconciler.run_ready()
    assert operator.reads == []


def test_object_that_replaces_a_deleted_one_is_read():
    operator = Operator()
    first = operator.cluster.as_user.create(job())
    operator.cluster.as_user.delete(KEY, uid_of(first))
    operator.cluster.as_user.create(job(gate="strict"))
    deletion = {"name": "a", "namespace": "default", "uid": uid_of(first), "resourceVersion": "1"}
    operator.reconciler.handle(WatchEvent("DELETED", {"kind": "FineTuneJob", "metadata": deletion}))
    operator.reconciler.run_ready()
    assert operator.message() == "strict"


def test_object_that_no_longer_exists_is_not_decided():
    def read(cluster: FakeCluster, key: Key) -> Object | None:
        del cluster, key
        return None

    operator = Operator(read)
    operator.cluster.as_user.create(job())
    operator.reconciler.run_ready()
    assert operator.controller.decided == []


def test_version_that_a_list_brought_meanwhile_is_not_read():
    operator = Operator()
    operator.cluster.as_user.create(job())
    operator.reconciler.resync()
    operator.reconciler.run_ready()
    assert operator.message() == "golden"
    assert operator.reads == []


def test_event_with_an_older_version_leads_to_no_decision():
    operator = Operator()
    made = operator.cluster.as_user.create(job())
    operator.reconciler.run_ready()
    operator.controller.decided.clear()
    operator.reconciler.handle(WatchEvent("CHANGED", {field: made[field] for field in ("kind", "metadata")}))
    operator.reconciler.run_ready()
    assert operator.controller.decided == []
    assert operator.reads == [KEY]
