"""Jobs that name a FineTuneJob as their owner, but are not its attempts, are ignored."""

from typing import Any

import pytest

from support.builders import make_job
from support.world import World
from tunegate_api.v1alpha2.reasons import Phase
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.owners import owner_reference

LABELS = {
    "app.kubernetes.io/managed-by": "tunegate",
    "tunegate.dev/job": "orders",
    "tunegate.dev/role": "train",
    "tunegate.dev/stage": "sft",
    "tunegate.dev/attempt": "7",
}


def ignored_job(world: World, labels: dict[str, str], namespace: str = "default") -> Object:
    """Return a Job that somebody else created, with ``orders`` as its owner."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": "stranger",
            "namespace": namespace,
            "labels": labels,
            "ownerReferences": [owner_reference(world.job())],
        },
        "spec": {"template": {"spec": {"containers": [{"name": "trainer"}]}}},
    }


def training() -> World:
    world = World()
    world.apply_all(make_job().with_publish().obj())
    world.until_checkpoint()
    return world


def ignored(world: World) -> list[str]:
    return [message for _, _, reason, message in world.cluster.events if reason == "ChildIgnored"]


def end_of(world: World) -> dict[str, Any]:
    status = world.run()
    assert status.phase is Phase.SUCCEEDED, status.message
    return {"final": status.final, "checkpoints": status.checkpoints, "attempts": len(status.attempts)}


@pytest.mark.parametrize("labels", [LABELS, {}], ids=["labelled as an attempt", "without labels"])
def test_child_job_in_another_namespace_is_ignored_without_an_event(labels: dict[str, str]) -> None:
    expected, world = end_of(training()), training()
    world.apply(ignored_job(world, labels, namespace="attacker"))
    assert end_of(world) == expected
    assert ignored(world) == []


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"tunegate.dev/role": None}, "label tunegate.dev/role is missing"),
        ({"tunegate.dev/role": "king"}, "label tunegate.dev/role is 'king', which is not a role"),
        ({"tunegate.dev/attempt": None}, "label tunegate.dev/attempt is missing"),
        ({"tunegate.dev/attempt": "first"}, "is 'first', which is not the number of an attempt"),
        ({"tunegate.dev/attempt": "9" * 20}, "99', which is not the number of an attempt"),
        ({"tunegate.dev/stage": "none-of-the-spec"}, "but the owner has no step 'train none-of-the-spec'"),
        ({"tunegate.dev/stage": None}, "label tunegate.dev/stage is missing"),
    ],
)
def test_child_job_with_unreadable_labels_is_ignored_and_reported_once(
    wrong: dict[str, str | None], named: str
) -> None:
    expected, world = end_of(training()), training()
    labels = {k: v for k, v in (LABELS | wrong).items() if v is not None}
    world.apply(ignored_job(world, labels))
    assert end_of(world) == expected
    [message] = ignored(world)
    assert "Job stranger" in message
    assert named in message


def test_deleted_ignored_job_is_not_reported_by_a_restarted_operator() -> None:
    world = training()
    world.apply(ignored_job(world, {}))
    world.settle()
    found = world.cluster.as_user.get(Key("Job", "default", "stranger"))
    assert found is not None
    world.cluster.as_user.delete(Key.of(found), found["metadata"]["uid"])
    assert len(ignored(world)) == 1
    world.boot()
    end_of(world)
    assert len(ignored(world)) == 1
