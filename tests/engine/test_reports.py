"""The store keeps the latest report of each role and stage, whatever the order in which reports arrive."""

import itertools
from typing import Any

import pytest

from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.reports import JobTooLargeError, ReportStore, StoreFullError


def report(
    sequence: int, role: str = "train", stage: str | None = "sft", attempt: int = 1, uid: str = "1"
) -> Object:
    stages = {"stage": stage} if stage else {}
    return {"jobUid": uid, "role": role, **stages, "attempt": attempt, "sequence": sequence}


@pytest.mark.parametrize("order", list(itertools.permutations([1, 2, 3])))
def test_report_with_the_highest_sequence_is_kept(order: tuple[int, ...]) -> None:
    store = ReportStore()
    for sequence in order:
        store.put(report(sequence))
    assert [r["sequence"] for r in store.latest("1")] == [3]


def test_repeated_report_changes_nothing() -> None:
    store = ReportStore()
    assert store.put(report(1))
    assert not store.put(report(1))


def test_later_attempts_report_replaces_one_with_a_higher_sequence() -> None:
    store = ReportStore()
    store.put(report(50, attempt=1))
    assert store.put(report(1, attempt=2))
    assert not store.put(report(51, attempt=1))


def test_reports_of_each_role_stage_and_job_are_stored_separately() -> None:
    store = ReportStore()
    store.put(report(1, "data", None))
    store.put(report(1, "train", "sft"))
    store.put(report(1, "train", "dpo"))
    store.put(report(1, "data", None, uid="2"))
    assert [(r["role"], r.get("stage")) for r in store.latest("1")] == [
        ("data", None),
        ("train", "dpo"),
        ("train", "sft"),
    ]
    store.forget("1")
    assert store.latest("1") == []
    assert len(store.latest("2")) == 1


def test_report_is_acknowledged_only_after_it_is_in_status() -> None:
    store = ReportStore()
    store.put(report(1) | {"results": {"sets": {}}})
    promise = store.acknowledgement(report(1) | {"results": {"sets": {}}})
    assert not promise.done()
    store.acknowledge("1", store.latest("1"))
    assert promise.done()


def test_report_received_during_a_decision_is_not_acknowledged_yet() -> None:
    store = ReportStore()
    store.put(report(1) | {"outcome": None})
    decided = store.latest("1")
    store.put(report(2) | {"outcome": "Completed"})
    promise = store.acknowledgement(report(2) | {"outcome": "Completed"})
    store.acknowledge("1", decided)
    assert not promise.done()
    store.acknowledge("1", store.latest("1"))
    assert promise.done()


def test_report_with_only_new_progress_is_acknowledged_at_once() -> None:
    store = ReportStore()
    store.put(report(1) | {"progress": {"step": 1}, "results": {"sets": {}}})
    store.acknowledge("1", store.latest("1"))
    further = report(2) | {"progress": {"step": 2}, "results": {"sets": {}}}
    store.put(further)
    assert store.acknowledgement(further).done()
    measured = report(3) | {"progress": {"step": 3}, "results": {"sets": {"golden": {}}}}
    store.put(measured)
    assert not store.acknowledgement(measured).done()


def test_late_older_report_is_acknowledged_together_with_the_newer_one() -> None:
    store = ReportStore()
    store.put(report(2) | {"outcome": "Completed"})
    late = report(1)
    store.put(late)
    promise = store.acknowledgement(late)
    assert not promise.done()
    store.acknowledge("1", store.latest("1"))
    assert promise.done()


def test_acknowledgements_of_a_deleted_job_are_cancelled() -> None:
    store = ReportStore()
    store.put(report(1))
    promise = store.acknowledgement(report(1))
    store.forget("1")
    assert promise.cancelled()


def test_one_cancelled_wait_for_acknowledgement_does_not_affect_another() -> None:
    store = ReportStore()
    store.put(report(1))
    impatient, patient = store.acknowledgement(report(1)), store.acknowledgement(report(1))
    impatient.cancel()
    store.acknowledge("1", store.latest("1"))
    assert patient.done()


def large(uid: str, size: int = 1000, **identity: Any) -> Object:
    return report(1, uid=uid, **identity) | {
        "results": {"sets": {"golden": "x" * size}},
        "outcome": "Completed",
    }


def test_reports_of_a_job_above_its_size_limit_are_refused() -> None:
    store = ReportStore(max_job_bytes=2500)
    assert store.put(large("1", stage="sft"))
    with pytest.raises(JobTooLargeError, match="the job's reports have more than 2500 bytes"):
        store.put(large("1", 2000, stage="dpo"))
    assert store.put(large("2", stage="sft")), "another job has its own limit"
    assert [r["stage"] for r in store.latest("1")] == ["sft"]


def test_acknowledged_results_are_dropped_to_make_room() -> None:
    store = ReportStore(max_job_bytes=2500)
    store.put(large("1", 2000, stage="sft"))
    store.acknowledge("1", store.latest("1"))
    assert store.put(large("1", 2000, stage="dpo"))
    kept, released = store.latest("1")
    assert "results" in kept
    assert "results" not in released
    assert released["outcome"] == "Completed"
    store.acknowledge("1", store.latest("1"))
    assert store.acknowledgement(large("1", 2000, stage="sft")).done(), "it is still acknowledged"


def test_unacknowledged_results_are_never_dropped() -> None:
    store = ReportStore(max_bytes=2500)
    store.put(large("1"))
    store.put(large("2"))
    with pytest.raises(StoreFullError):
        store.put(large("3"))
    assert all("results" in store.latest(uid)[0] for uid in "12")
    store.acknowledge("1", store.latest("1"))
    assert store.put(large("3"))
    assert store._bytes < 2500


def test_small_jobs_reports_fit_when_large_jobs_fill_store() -> None:
    store = ReportStore(max_bytes=4000)
    for uid in ("1", "2", "3"):
        store.put(large(uid))
    with pytest.raises(StoreFullError):
        store.put(large("4"))
    assert store.put(large("5", 100))
    assert store.put(large("6", 100))


def test_forgetting_a_job_frees_the_memory_of_its_reports() -> None:
    store = ReportStore(max_bytes=2500)
    store.put(large("1", 2000))
    store.forget("1")
    assert store._bytes == 0
    assert store.put(large("2", 2000))
