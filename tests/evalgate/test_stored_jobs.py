"""A decision about a gate reads only the jobs that its status does not include yet."""

import copy
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta

import pytest

from support.builders import golden_text, make_config_map, make_gate, make_job
from support.gate_status import status
from support.world import World
from tunegate_api.contract.digests import sha256_text
from tunegate_api.meta import find_condition
from tunegate_api.v1alpha2.evalgate_status import MAX_RECENT_LOOKS, MAX_RECORDS, GateReason
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.controller import View
from tunegate_operator.engine.objects import moment, timestamp
from tunegate_operator.evalgate.controller import EvalGateController
from tunegate_operator.evalgate.jobs import MOST_JOBS

STORED = MOST_JOBS + 30
READ_AGAIN = MAX_RECENT_LOOKS + 1
"""How many recorded jobs a decision reads at most, if they end a minute apart: those that the status lists,
and the one before, because others may have ended in the same second."""


class CountingView:
    """The operator's cache, which counts the objects that a decision reads, by kind."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.reads: Counter[str] = Counter()

    def __getattr__(self, name: str) -> object:
        return getattr(self._view, name)

    def get(self, key: Key) -> Object | None:
        self.reads[key.kind] += 1
        return self._view.get(key)


def reads_of_a_decision(world: World, gate: str = "golden") -> Counter[str]:
    view = CountingView(world.cache)
    EvalGateController().decide(world.gate(gate), view, world.clock.now())
    return view.reads


def decide_all(world: World) -> None:
    """Let the operator make decisions until none is due. Decisions about thousands of jobs are many."""
    assert world.reconciler.run_ready(10_000) < 10_000, "decisions never settle"


@pytest.fixture
def world() -> World:
    """One job ended with a published model. Its gate recorded the model."""
    world = World()
    world.apply_all(make_job().with_publish().obj())
    world.run()
    return world


def store(world: World, numbers: Iterable[int], ended: datetime | None = None) -> None:
    """Create copies of the ended job with its ConfigMaps, each ended a minute after the one before, or all at
    ``ended``."""
    user, job = world.cluster.as_user, world.job()
    maps = [
        obj
        for obj in user.list_objects("ConfigMap")
        if any(owner["uid"] == job["metadata"]["uid"] for owner in obj["metadata"].get("ownerReferences", ()))
    ]
    first = moment(job["status"]["completionTime"])
    for number in numbers:
        made = user.create({**job, "metadata": {"name": f"copy-{number}", "namespace": "default"}})
        new = copy.deepcopy(job["status"])
        new["completionTime"] = timestamp(ended or first + timedelta(minutes=number + 1))
        user.patch_status(Key.of(made), new, made["metadata"]["resourceVersion"])
        uid, old = made["metadata"]["uid"], job["metadata"]
        for obj in maps:
            owner = obj["metadata"]["ownerReferences"][0] | {"name": f"copy-{number}", "uid": uid}
            name = (
                obj["metadata"]["name"]
                .replace(old["name"], f"copy-{number}")
                .replace(old["uid"][:5], uid[:5])
            )
            metadata = {"name": name, "namespace": "default", "ownerReferences": [owner]}
            user.create(world.signed({**obj, "metadata": metadata}))


def test_jobs_in_a_gates_status_are_not_read_again(world):
    store(world, range(STORED))
    decide_all(world)
    looks = status(world).looks
    assert looks is not None
    assert (looks.jobs, looks.checkpoints, looks.finals) == (STORED + 1, 5 * (STORED + 1), STORED + 1)
    assert [record.job for record in status(world).records] == [
        f"copy-{number}" for number in range(STORED - 1, STORED - 1 - MAX_RECORDS, -1)
    ]
    assert reads_of_a_decision(world)["FineTuneJob"] <= READ_AGAIN


def test_restarted_operator_reads_no_job_that_the_status_includes(world):
    store(world, range(STORED))
    decide_all(world)
    world.boot()
    assert reads_of_a_decision(world)["FineTuneJob"] <= READ_AGAIN
    before = status(world)
    decide_all(world)
    assert status(world) == before


def test_decision_about_a_recreated_gate_reads_at_most_100_jobs(world):
    """Then others have their turn before the gate reads more."""
    store(world, range(STORED))
    decide_all(world)
    before, found = status(world), world.gate()
    world.cluster.as_user.delete(Key.of(found), found["metadata"]["uid"])
    world.apply(make_gate().obj())
    assert READ_AGAIN < reads_of_a_decision(world)["FineTuneJob"] <= MOST_JOBS
    decide_all(world)
    assert status(world).looks == before.looks
    assert status(world).records == before.records


def test_recreated_gate_is_not_ready_before_reading_ended_jobs(world):
    """A job that started earlier would be compared with an old published version, or with none."""
    store(world, range(STORED))
    decide_all(world)
    newest, found = status(world).records[0], world.gate()
    world.cluster.as_user.delete(Key.of(found), found["metadata"]["uid"])
    world.apply(make_gate().obj())
    states = set()
    while world.reconciler.run_ready(1):
        now = status(world)
        if ready := find_condition(now.conditions, "Ready"):
            states.add((ready.status, ready.reason, now.records[:1] == [newest]))
    assert states - {("Unknown", GateReason.READING_RECORDS, True)} == {
        ("Unknown", GateReason.READING_RECORDS, False),
        ("True", GateReason.GOLDEN_READ, True),
    }


@pytest.mark.parametrize("seconds", [0, 30])
def test_job_whose_end_is_observed_late_is_recorded(world, seconds):
    store(world, range(STORED))
    decide_all(world)
    last = status(world).looks.counted_until
    ended = moment(world.job()["status"]["completionTime"])
    store(world, [STORED], ended=last - timedelta(seconds=seconds))
    decide_all(world)
    assert last > ended
    assert f"copy-{STORED}" in [record.job for record in status(world).records]


def test_jobs_that_end_in_the_same_second_are_recorded_once(world):
    ended = moment(world.job()["status"]["completionTime"]) + timedelta(minutes=5)
    store(world, range(3), ended=ended)
    decide_all(world)
    assert len(status(world).records) == 4


def test_jobs_of_an_earlier_gate_are_read_once(world):
    store(world, range(STORED))
    decide_all(world)
    for kind, name in (("EvalGate", "golden"), ("ConfigMap", "cases")):
        found = world.cluster.as_user.get(Key(kind, "default", name))
        world.cluster.as_user.delete(Key(kind, "default", name), found["metadata"]["uid"])
    text = golden_text().replace("case-", "other-")
    gate = make_gate().obj()
    gate["spec"]["sets"][0]["sha256"] = sha256_text(text)
    world.apply(make_config_map("cases", golden__jsonl=text), gate)
    decide_all(world)
    reads = reads_of_a_decision(world)
    assert reads["FineTuneJob"] <= READ_AGAIN
    assert reads["ConfigMap"] <= 3 * READ_AGAIN
    assert status(world).records == []


def test_jobs_of_another_gate_or_without_evaluations_are_not_read(world):
    store(world, range(STORED))
    world.apply(make_gate("other").obj())
    for number in range(10):
        world.apply(make_job(f"pending-{number}").with_gates("other", "missing").obj())
    decide_all(world)
    assert reads_of_a_decision(world, "other")["FineTuneJob"] == 0
