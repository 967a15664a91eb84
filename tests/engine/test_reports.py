"""Of each role and stage of a job, the latest report counts, in whatever order they come."""

import itertools

import pytest

from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.reports import ReportStore


def report(
    sequence: int, role: str = "train", stage: str | None = "sft", attempt: int = 1, uid: str = "1"
) -> Object:
    stages = {"stage": stage} if stage else {}
    return {"jobUid": uid, "role": role, **stages, "attempt": attempt, "sequence": sequence}


@pytest.mark.parametrize("order", list(itertools.permutations([1, 2, 3])))
def test_the_highest_sequence_wins(order: tuple[int, ...]) -> None:
    store = ReportStore()
    for sequence in order:
        store.put(report(sequence))
    assert [r["sequence"] for r in store.latest("1")] == [3]


def test_a_repeated_report_changes_nothing() -> None:
    store = ReportStore()
    assert store.put(report(1))
    assert not store.put(report(1))


def test_an_attempt_that_counts_from_one_again_is_newer_than_the_attempt_before() -> None:
    store = ReportStore()
    store.put(report(50, attempt=1))
    assert store.put(report(1, attempt=2))
    assert not store.put(report(51, attempt=1))


def test_roles_stages_and_jobs_are_apart() -> None:
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
