"""Reconciliation survives crashes, conflicts and an unavailable API server, without repeated writes."""

import logging
from datetime import datetime
from typing import Any

import pytest

from support.clock import FakeClock
from support.fake_cluster import Crash, FakeCluster, Write
from support.function_controller import Decide, FunctionController
from support.work_queue import next_due
from tunegate_operator.engine.cache import Cache
from tunegate_operator.engine.cluster import Key, Object, WatchEvent
from tunegate_operator.engine.controller import Create, Decision, Delete, Event, Put, View
from tunegate_operator.engine.objects import uid_of
from tunegate_operator.engine.owners import owner_reference
from tunegate_operator.engine.queue import WorkQueue
from tunegate_operator.engine.reconcile import Reconciler

KEY = Key("FineTuneJob", "default", "demo")


def ftj(name: str = "demo") -> Object:
    return {
        "apiVersion": "tunegate.dev/v1alpha2",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {},
    }


def config_map(owner: Object, name: str = "request", data: str = "1") -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default", "ownerReferences": [owner_reference(owner)]},
        "data": {"x": data},
    }


def job(owner: Object, name: str = "train") -> Object:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "default", "ownerReferences": [owner_reference(owner)]},
        "spec": {"template": {"spec": {"containers": [{"name": "trainer"}], "restartPolicy": "Never"}}},
    }


class Operator:
    """One operator process on a cluster."""

    def __init__(self, cluster: FakeCluster, decide: Decide, **options: Any) -> None:
        self.cluster = cluster
        self.clock = cluster.clock
        self.queue = WorkQueue(self.clock)
        self.cache = Cache(cluster.get)
        self.controller = FunctionController(decide)
        self.reconciler = Reconciler(
            cluster, self.cache, self.queue, [self.controller], self.clock, **options
        )
        cluster.watch(self.reconciler.handle)
        cluster.watch_reports(self.reconciler.handle_report)
        self.reconciler.resync()

    def settle(self) -> None:
        """Process all ready keys."""
        self.reconciler.run_ready(limit=50)

    def settle_through_backoff(self, seconds: float = 3000) -> None:
        """Process all keys that become ready within ``seconds``."""
        end = self.clock.monotonic() + seconds
        self.settle()
        while (wait := next_due(self.queue)) is not None and self.clock.monotonic() + wait <= end:
            self.clock.advance(wait + 1e-6)
            self.settle()

    def status(self, key: Key = KEY) -> Object:
        obj = self.cluster.as_user.get(key)
        assert obj is not None
        status: Object = obj.get("status", {})
        return status


@pytest.fixture
def cluster() -> FakeCluster:
    cluster = FakeCluster(FakeClock())
    cluster.as_user.create(ftj())
    return cluster


def two_children(obj: Object, view: View, now: datetime) -> Decision:  # noqa: ARG001 - a Protocol's
    """Create two children. The phase is Running once both are in the cache."""
    children = len(view.children(obj, "ConfigMap")) + len(view.children(obj, "Job"))
    phase = "Running" if children == 2 else "Pending"
    return Decision(
        status={"phase": phase},
        actions=(Put(config_map(obj)), Create(job(obj))),
        events=(Event("Normal", phase, f"is {phase}"),),
    )


def test_children_are_written_before_the_status_and_events_after_it(cluster: FakeCluster) -> None:
    operator = Operator(cluster, two_children)
    operator.settle()
    assert cluster.writes == [
        Write("create", "ConfigMap", "request"),
        Write("create", "Job", "train"),
        Write("status", "FineTuneJob", "demo"),
        Write("event", "FineTuneJob", "demo"),
        Write("status", "FineTuneJob", "demo"),
        Write("event", "FineTuneJob", "demo"),
    ]
    assert operator.status() == {"phase": "Running"}


def test_object_without_changes_is_not_written_again(cluster: FakeCluster) -> None:
    operator = Operator(cluster, two_children)
    operator.settle()
    cluster.writes.clear()
    operator.queue.add(KEY)
    operator.settle()
    Operator(cluster, two_children).settle()
    assert [write for write in cluster.writes if write.verb != "create"] == []
    assert cluster.writes == [], "creating an existing child again writes nothing"


@pytest.mark.parametrize("n", range(1, 7))
@pytest.mark.parametrize("when", ["before", "after"])
def test_crash_at_any_write_leads_to_the_same_final_state(cluster: FakeCluster, when: str, n: int) -> None:
    getattr(cluster, f"fail_{when}")(n)
    with pytest.raises(Crash):
        Operator(cluster, two_children).settle()
    operator = Operator(cluster, two_children)
    operator.settle()
    assert operator.status() == {"phase": "Running"}
    kinds = ("ConfigMap", "Job")
    assert [len(cluster.as_user.list_objects(kind)) for kind in kinds] == [1, 1]
    reasons = [reason for _, _, reason, _ in cluster.events]
    assert len(reasons) == len(set(reasons)), "an event was repeated"


def test_conflict_leads_to_a_decision_on_the_current_object(cluster: FakeCluster) -> None:
    seen = []

    def decide(obj: Object, view: View, now: datetime) -> Decision:  # noqa: ARG001
        seen.append(obj["spec"].get("suspend", False))
        return Decision({"suspended": seen[-1]})

    operator = Operator(cluster, decide)
    cluster._listeners.clear()  # the watch lags behind
    obj = cluster.as_user.get(KEY)
    assert obj is not None
    cluster.as_user.replace(obj | {"spec": {"suspend": True}})
    operator.settle_through_backoff()
    assert seen == [False, True]
    assert operator.status() == {"suspended": True}


def test_object_deleted_before_its_decision_causes_no_warning(
    cluster: FakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    operator = Operator(cluster, two_children)
    cluster._listeners.clear()
    obj = cluster.as_user.get(KEY)
    assert obj is not None
    cluster.as_user.delete(KEY, uid_of(obj))
    with caplog.at_level(logging.WARNING):
        operator.settle_through_backoff()
    assert operator.cache.get(KEY) is None
    assert next_due(operator.queue) is None
    assert caplog.messages == []


def test_decision_is_retried_until_the_api_server_is_available(
    cluster: FakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    operator = Operator(cluster, two_children)
    with cluster.unavailable(), caplog.at_level(logging.WARNING):
        operator.settle_through_backoff(seconds=3600)
    assert len(caplog.messages) == 1, "each retry was logged"
    operator.settle_through_backoff()
    assert operator.status() == {"phase": "Running"}
    assert operator.queue.failures(KEY) == 0, "the next failure would wait as long as the last"


@pytest.mark.parametrize("conflicts", [0, 3])
def test_job_resumes_within_seconds_after_an_hour_of_outage(cluster: FakeCluster, conflicts: int) -> None:
    operator = Operator(cluster, two_children)
    with cluster.unavailable():
        operator.settle_through_backoff(seconds=3600)
    cluster.conflict(conflicts)
    operator.settle_through_backoff(seconds=20)
    assert operator.status() == {"phase": "Running"}


def test_failing_object_is_retried_at_most_every_1000_seconds(cluster: FakeCluster) -> None:
    cluster.refuse("Job", "spec.template: invalid")
    operator = Operator(cluster, two_children)
    operator.settle_through_backoff(seconds=3600)
    decisions = operator.controller.decisions
    operator.settle_through_backoff(seconds=10_000)
    assert operator.controller.decisions - decisions <= 10


def test_status_is_written_even_if_an_action_failed(cluster: FakeCluster) -> None:
    cluster.refuse("Job", "exceeded quota")
    operator = Operator(cluster, two_children)
    operator.settle()
    assert operator.status() == {"phase": "Pending"}
    cluster.refuse("Job", None)
    operator.settle_through_backoff()
    assert operator.status() == {"phase": "Running"}


def test_controller_sees_why_its_child_was_refused(cluster: FakeCluster) -> None:
    def decide(obj: Object, view: View, now: datetime) -> Decision:  # noqa: ARG001
        refusal = view.refusal(uid_of(obj))
        return Decision({"refusal": refusal and refusal.message}, actions=(Create(job(obj)),))

    cluster.refuse("Job", "exceeded quota")
    operator = Operator(cluster, decide)
    operator.settle_through_backoff(1)
    assert operator.status() == {"refusal": "exceeded quota"}
    cluster.refuse("Job", None)
    operator.settle_through_backoff()
    assert operator.status() == {"refusal": None}


def test_actions_after_a_failed_one_are_not_carried_out(cluster: FakeCluster) -> None:
    cluster.refuse("ConfigMap", "no")
    Operator(cluster, two_children).settle()
    assert cluster.as_user.list_objects("Job") == []


def test_child_is_created_when_its_name_becomes_free(cluster: FakeCluster) -> None:
    other = cluster.as_user.create(ftj("other"))
    taken = cluster.as_user.create(job(other))

    def decide(obj: Object, view: View, now: datetime) -> Decision | None:  # noqa: ARG001
        return Decision({}, actions=(Create(job(obj)),)) if obj["metadata"]["name"] == "demo" else None

    operator = Operator(cluster, decide)
    operator.settle_through_backoff(1)
    assert [uid_of(o) for o in cluster.as_user.list_objects("Job")] == [uid_of(taken)]
    cluster.as_user.delete(Key.of(taken), uid_of(taken))
    operator.settle_through_backoff()
    owner = cluster.as_user.get(KEY)
    assert owner is not None
    (created,) = cluster.as_user.list_objects("Job")
    assert created["metadata"]["ownerReferences"][0]["uid"] == uid_of(owner)


def test_put_replaces_changed_content_and_keeps_metadata_of_users(cluster: FakeCluster) -> None:
    content = "1"
    operator = Operator(
        cluster,
        lambda obj, view, now: Decision({"content": content}, (Put(config_map(obj, data=content)),)),  # noqa: ARG005
    )
    operator.settle()
    (held,) = cluster.as_user.list_objects("ConfigMap")
    held["metadata"] |= {"labels": {"team": "a"}, "annotations": {"note": "b"}, "finalizers": ["c.io/d"]}
    cluster.as_user.replace(held)
    operator.settle()
    content = "2"
    operator.queue.add(KEY)
    operator.settle()
    (held,) = cluster.as_user.list_objects("ConfigMap")
    assert held["data"] == {"x": "2"}
    assert held["metadata"]["labels"] == {"team": "a"}
    assert held["metadata"]["annotations"] == {"note": "b"}
    assert held["metadata"]["finalizers"] == ["c.io/d"]
    assert [write.verb for write in cluster.writes if write.kind == "ConfigMap"] == ["create", "replace"]


def test_own_status_write_is_cached_before_its_watch_event(cluster: FakeCluster) -> None:
    seen = []

    def decide(obj: Object, view: View, now: datetime) -> Decision:  # noqa: ARG001
        seen.append(obj.get("status", {}))
        return Decision({"count": len(seen)}, requeue_after=1)

    operator = Operator(cluster, decide)
    cluster._listeners.clear()
    operator.settle()
    operator.clock.advance(1)
    operator.settle()
    assert seen == [{}, {"count": 1}]


def rows_in_status(obj: Object, view: View, now: datetime) -> Decision:  # noqa: ARG001 - a Protocol's
    """Read a user's ConfigMap, and copy its content to status."""
    rows = view.get(Key("ConfigMap", "default", "rows"))
    return Decision({"rows": rows and rows["data"]["x"]})


def test_decision_reads_current_config_maps(cluster: FakeCluster) -> None:
    owner = cluster.as_user.get(KEY)
    assert owner is not None
    operator = Operator(cluster, rows_in_status)
    operator.settle()
    assert operator.status() == {"rows": None}
    made = cluster.as_user.create(config_map(owner, "rows"))
    operator.settle()
    assert operator.status() == {"rows": "1"}
    cluster.as_user.replace(made | {"data": {"x": "2"}})
    operator.settle()
    assert operator.status() == {"rows": "2"}


def test_decision_is_retried_with_backoff_if_config_map_read_fails(cluster: FakeCluster) -> None:
    owner = cluster.as_user.get(KEY)
    assert owner is not None
    cluster.as_user.create(config_map(owner, "rows"))
    operator = Operator(cluster, rows_in_status)
    with cluster.unavailable():
        operator.settle_through_backoff(seconds=60)
    assert 5 < operator.controller.decisions < 20
    assert operator.status() == {}
    operator.settle_through_backoff(seconds=120)
    assert operator.status() == {"rows": "1"}


def test_child_that_lost_its_label_is_found_by_its_name(cluster: FakeCluster) -> None:
    """When an object loses its label, a watch with a label selector reports DELETED."""

    def decide(obj: Object, view: View, now: datetime) -> Decision:  # noqa: ARG001
        children = [child["metadata"]["name"] for child in view.children(obj, "Job")]
        return Decision({"children": children}, actions=() if children else (Create(job(obj)),))

    operator = Operator(cluster, decide)
    operator.settle()
    (child,) = cluster.as_user.list_objects("Job")
    changed = cluster.as_user.replace(child | {"metadata": child["metadata"] | {"labels": {"team": "a"}}})
    version = {"resourceVersion": changed["metadata"]["resourceVersion"]}
    lost = WatchEvent("DELETED", child | {"metadata": child["metadata"] | version})
    operator.reconciler.handle(lost)
    operator.settle()
    assert operator.status() == {"children": ["train"]}
    for _ in operator.cache.resync("Job", [], operator.cache.mark()):  # nor do lists show it
        operator.queue.add(KEY)
    operator.settle()
    assert operator.status() == {"children": ["train"]}
    assert operator.cache.by_uid(uid_of(child)), "it was read again"
    assert [uid_of(o) for o in cluster.as_user.list_objects("Job")] == [uid_of(child)]


def test_put_with_an_outdated_cache_reads_the_object_and_succeeds(cluster: FakeCluster) -> None:
    content = "1"
    operator = Operator(cluster, lambda obj, view, now: Decision({}, (Put(config_map(obj, data=content)),)))  # noqa: ARG005
    operator.settle()
    cluster._listeners.clear()  # the watch lags behind
    (held,) = cluster.as_user.list_objects("ConfigMap")
    cluster.as_user.replace(held | {"data": {"x": "changed by hand"}})
    content = "2"
    operator.queue.add(KEY)
    operator.settle_through_backoff()
    (held,) = cluster.as_user.list_objects("ConfigMap")
    assert held["data"] == {"x": "2"}


def test_delete_action_also_deletes_children(cluster: FakeCluster) -> None:
    owner = cluster.as_user.get(KEY)
    assert owner is not None
    child = cluster.as_user.create(job(owner))
    cluster.start_pod("train")
    operator = Operator(
        cluster,
        lambda obj, view, now: Decision({}, (Delete(Key.of(child), uid_of(child)),)),  # noqa: ARG005
    )
    operator.settle()
    assert cluster.as_user.list_objects("Job") == cluster.as_user.list_objects("Pod") == []


def test_progress_is_written_at_most_once_per_interval(cluster: FakeCluster) -> None:
    step = 0

    def decide(obj: Object, view: View, now: datetime) -> Decision:  # noqa: ARG001
        return Decision(
            {
                "phase": "Training",
                "progress": {"step": step},
                "message": f"step {step}",
                "display": {"progress": f"{step} %", "gates": "0/1"},
            }
        )

    operator = Operator(cluster, decide, progress_interval=30)
    operator.settle()
    for step in range(1, 60):  # noqa: B007 - decide reads it
        operator.clock.advance(1)
        operator.queue.add(KEY)
        operator.settle()
    assert [w.verb for w in cluster.writes] == ["status", "status"]
    assert operator.status()["progress"] == {"step": 30}
    operator.settle_through_backoff(30)
    assert operator.status()["progress"] == {"step": 59}, "the last progress was never written"


def test_status_change_besides_progress_is_written_at_once(cluster: FakeCluster) -> None:
    status: Object = {"phase": "Training", "display": {"progress": "1 %", "gates": "0/1"}}
    operator = Operator(cluster, lambda obj, view, now: Decision(status), progress_interval=30)  # noqa: ARG005
    operator.settle()
    status = {"phase": "Training", "display": {"progress": "2 %", "gates": "1/1"}}
    operator.queue.add(KEY)
    operator.settle()
    assert operator.status() == status


@pytest.mark.parametrize("is_progress", [False, True])
def test_changed_number_is_written_at_once_except_in_progress(
    cluster: FakeCluster, is_progress: bool
) -> None:
    message = "0/5 nodes are available"

    def decide(obj: Object, view: View, now: datetime) -> Decision:  # noqa: ARG001
        return Decision({"phase": "Queued", "message": message}, message_is_progress=is_progress)

    operator = Operator(cluster, decide, progress_interval=30)
    operator.settle()
    message = "0/6 nodes are available"
    operator.queue.add(KEY)
    operator.settle()
    assert operator.status()["message"] == f"0/{5 if is_progress else 6} nodes are available"


def test_decision_is_repeated_after_requeue_after(cluster: FakeCluster) -> None:
    operator = Operator(cluster, lambda obj, view, now: Decision({"at": str(now)}, requeue_after=60))  # noqa: ARG005
    operator.settle()
    first = operator.status()
    operator.clock.advance(59)
    operator.settle()
    assert operator.status() == first
    operator.clock.advance(1)
    operator.settle()
    assert operator.status() != first


def test_bug_in_one_objects_decision_does_not_affect_others(
    cluster: FakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    def decide(obj: Object, view: View, now: datetime) -> Decision:  # noqa: ARG001
        if obj["metadata"]["name"] == "demo":
            raise ZeroDivisionError
        return Decision({"phase": "Running"})

    cluster.as_user.create(ftj("other"))
    operator = Operator(cluster, decide)
    operator.settle()
    assert operator.status(Key("FineTuneJob", "default", "other")) == {"phase": "Running"}
    assert "ZeroDivisionError" in caplog.text
    assert operator.queue.failures(KEY) == 1


def test_object_being_deleted_is_not_written(cluster: FakeCluster) -> None:
    operator = Operator(cluster, lambda obj, view, now: None)  # noqa: ARG005
    operator.settle()
    assert cluster.writes == []


def test_event_repeated_by_later_decisions_is_recorded_once(cluster: FakeCluster) -> None:
    count = 0

    def decide(obj: Object, view: View, now: datetime) -> Decision:  # noqa: ARG001
        return Decision({"count": count}, events=(Event("Warning", "Regressing", "golden -6.0 points"),))

    operator = Operator(cluster, decide)
    for count in range(3):  # noqa: B007 - decide reads it
        operator.queue.add(KEY)
        operator.settle()
    assert cluster.events == [("demo", "Warning", "Regressing", "golden -6.0 points")]


def test_warning_that_repeats_for_two_hours_is_written_eight_times(cluster: FakeCluster) -> None:
    warnings = (Event("Warning", "ChildIgnored", "Job stranger is ignored"),)
    operator = Operator(cluster, lambda obj, view, now: Decision({}, warnings=warnings))  # noqa: ARG005
    occurrences = 2 * 3600 // 5
    for _ in range(occurrences):
        operator.queue.add(KEY)
        operator.settle()
        operator.clock.advance(5)
    writes = [write for write in cluster.writes if write.verb == "event"]
    assert len(writes) == 8
    (event,) = cluster.as_user.list_objects("Event")
    assert event["count"] == 5460 // 5 + 1, "the last write was after 5,460 s"


def test_event_whose_write_failed_is_recorded_with_the_next_one(cluster: FakeCluster) -> None:
    warnings = (Event("Warning", "ChildIgnored", "Job stranger is ignored"),)
    operator = Operator(cluster, lambda obj, view, now: Decision({}, warnings=warnings))  # noqa: ARG005
    cluster.error_on(1)
    operator.settle()
    assert cluster.events == []
    operator.clock.advance(5)
    operator.queue.add(KEY)
    operator.settle()
    (event,) = cluster.as_user.list_objects("Event")
    assert event["count"] == 2


def test_pod_change_after_child_job_deletion_enqueues_the_finetunejob(cluster: FakeCluster) -> None:
    operator = Operator(cluster, two_children)
    operator.settle()
    pod = cluster.start_pod("train")
    assert operator.queue.get(0) == KEY
    operator.queue.done(KEY)
    operator.settle()
    (child,) = cluster.as_user.list_objects("Job")
    operator.cache.remove(uid_of(child))
    cluster.as_user.delete(Key.of(pod), uid_of(pod))
    assert operator.queue.get(0) == KEY


def test_gate_change_enqueues_the_keys_that_the_controller_returns(cluster: FakeCluster) -> None:
    operator = Operator(cluster, lambda obj, view, now: Decision({}))  # noqa: ARG005
    operator.settle()
    operator.controller.concerned = [KEY]
    cluster.as_user.create(
        {"apiVersion": "tunegate.dev/v1alpha2", "kind": "EvalGate", "metadata": {"name": "g"}}
    )
    before = operator.controller.decisions
    operator.settle()
    assert operator.controller.decisions == before + 1


def test_report_enqueues_its_job_and_is_available_to_the_decision(cluster: FakeCluster) -> None:
    operator = Operator(
        cluster,
        lambda obj, view, now: Decision({"steps": [r["sequence"] for r in view.reports(uid_of(obj))]}),  # noqa: ARG005
    )
    operator.settle()
    obj = cluster.as_user.get(KEY)
    assert obj is not None
    cluster.report(uid_of(obj), {"role": "train", "stage": "sft", "attempt": 1, "sequence": 4})
    operator.settle()
    assert operator.status() == {"steps": [4]}


def test_reports_of_a_deleted_job_are_dropped(cluster: FakeCluster) -> None:
    operator = Operator(cluster, two_children)
    obj = cluster.as_user.get(KEY)
    assert obj is not None
    report = {"role": "train", "stage": "sft", "attempt": 1, "sequence": 4}
    cluster.report(uid_of(obj), report)
    cluster._listeners.clear()
    cluster.as_user.delete(KEY, uid_of(obj))
    operator.settle_through_backoff()
    assert operator.cache.get(KEY) is None
    operator.reconciler.handle(WatchEvent("DELETED", obj))
    assert operator.cache.reports(uid_of(obj)) == []
    # A report of its pod that arrives after the deletion.
    late = {"jobUid": uid_of(obj), "time": "2026-01-01T00:00:00Z", **report, "sequence": 5}
    assert operator.reconciler.handle_report(late).cancelled()
    assert operator.cache.reports(uid_of(obj)) == []


def test_resync_creates_a_child_whose_deletion_was_missed(cluster: FakeCluster) -> None:
    operator = Operator(cluster, two_children)
    operator.settle()
    listeners = list(cluster._listeners)
    cluster._listeners.clear()
    (child,) = cluster.as_user.list_objects("Job")
    cluster.as_user.delete(Key.of(child), uid_of(child))
    cluster._listeners.extend(listeners)
    operator.reconciler.resync()
    operator.settle()
    assert len(cluster.as_user.list_objects("Job")) == 1, "the child was not created again"
