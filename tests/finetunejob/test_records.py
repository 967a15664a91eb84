"""A job is held if its recorded request, plan or results were edited or written by another version."""

import pytest

from support.builders import make_job
from support.recorded import replace_record
from support.world import World
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.names import PLAN_KEY, REQUEST_KEY, RESULTS_KEY, plan_name, request_name, results_name

RECORDS = pytest.mark.parametrize(
    ("name", "key"),
    [(request_name, REQUEST_KEY), (plan_name, PLAN_KEY), (results_name, RESULTS_KEY)],
    ids=["request", "plan", "results"],
)


def training() -> World:
    world = World()
    world.apply_all(make_job().with_publish().obj())
    world.until_checkpoint()
    return world


def config_map(world: World, name: str) -> Object:
    found = world.cluster.as_user.get(Key("ConfigMap", "default", name))
    assert found is not None
    return found


@RECORDS
@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda _text: None, "it has no key"),
        (lambda text: text[:-10], "Invalid JSON"),
    ],
    ids=["no key", "cut"],
)
def test_unreadable_record_holds_the_job_until_it_is_restored(name, key, edit, problem) -> None:
    world = training()
    meta = world.job()["metadata"]
    record = config_map(world, name(meta["name"], meta["uid"]))
    good, jobs = record["data"], world.jobs()
    changed = edit(good[key])
    replace_record(world, record, {} if changed is None else {key: changed})
    world.settle()

    stalled = world.condition("Stalled")
    assert (stalled.status, stalled.reason) == ("True", Reason.RECORD_UNREADABLE)
    assert record["metadata"]["name"] in stalled.message
    assert problem in stalled.message
    assert world.status().phase is Phase.TRAINING
    assert world.jobs() == jobs, "no child is deleted or created"

    replace_record(world, record, good)
    assert world.run().phase is Phase.SUCCEEDED
    assert world.condition("Stalled") is None
