"""A bug in the decision about an object is shown by an Event, the condition Stalled and a metric, until a
decision succeeds."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pytest

from support.builders import golden_text, make_config_map, make_gate, make_job
from support.fake_cluster import Write
from support.gate_status import ready
from support.work_queue import next_due
from support.world import REGRESSING, Script, World
from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.controller import Decision, View
from tunegate_operator.engine.internal_errors import STALLED_AFTER

# Part of an error, which must not be shown.
SECRET = "token-of-a-secret"
JOB, GATE = Key("FineTuneJob", "default", "orders"), Key("EvalGate", "default", "golden")
MESSAGE = (
    "the operator cannot reconcile this object, and retries: internal error KeyError. See the operator's "
    'log, at "FineTuneJob default/orders: internal error". If an upgrade of the operator does not help, '
    "report the bug with these lines"
)


class Faulty:
    """A controller with a bug: its decisions about one object raise the errors of the test, in turn. With
    ``is_blind``, it also finds no other objects."""

    is_blind = False

    def __init__(self, controller: Any, key: Key) -> None:
        self.kind = controller.kind
        self.errors: list[Exception] = [KeyError(SECRET)]
        self.decisions = 0
        self._controller, self._key = controller, key

    def decide(self, obj: Object, view: View, now: datetime) -> Decision | None:
        if self.errors and Key.of(obj) == self._key:
            self.decisions += 1
            error = self.errors[self.decisions % len(self.errors)]
            raise type(error)(*error.args)
        found: Decision | None = self._controller.decide(obj, view, now)
        return found

    def references(self, obj: Object) -> Iterable[Key]:
        return self._find(self._controller.references(obj))

    def concerns(self, changed: Object, view: View) -> Iterable[Key]:
        return self._find(self._controller.concerns(changed, view))

    def _find(self, keys: Iterable[Key]) -> Iterable[Key]:
        if self.is_blind:
            raise KeyError(SECRET)
        return keys


class FaultyWorld(World):
    """A world whose operator has a bug in the decisions about one object."""

    def __init__(self, key: Key = JOB, script: Script | None = None) -> None:
        self.key = key
        super().__init__(script)

    def boot(self) -> None:
        super().boot()
        controllers = self.reconciler._controllers
        self.faulty = Faulty(controllers[self.key.kind], self.key)
        controllers[self.key.kind] = self.faulty

    def retry(self, seconds: float = 3000) -> None:
        """Let the operator retry for this time."""
        end = self.clock.monotonic() + seconds
        self.reconciler.run_ready(60)
        while (wait := next_due(self.queue)) is not None and self.clock.monotonic() + wait <= end:
            self.clock.advance(wait + 1e-6)
            self.reconciler.run_ready(60)

    def writes_about(self) -> list[Write]:
        return [w for w in self.cluster.writes if (w.kind, w.name) == (self.key.kind, self.key.name)]

    def conditions(self) -> dict[str, tuple[str, str]]:
        """Return the status and reason of each condition of the object."""
        found = self.cluster.as_user.get(self.key)
        assert found is not None
        return {c["type"]: (c["status"], c["reason"]) for c in found.get("status", {}).get("conditions", ())}


def test_internal_error_has_an_event_at_once_without_its_text():
    world = FaultyWorld()
    world.apply_all()
    world.reconciler.run_ready(2)
    world.reconciler.run_ready(2)
    assert ("orders", "Warning", "InternalError", MESSAGE) in world.cluster.events
    assert SECRET not in str(world.cluster.events)


def test_object_that_keeps_failing_is_stalled_by_one_write():
    world = FaultyWorld()
    world.apply_all()
    world.retry()
    assert world.conditions() == {"Stalled": ("True", "InternalError")}
    assert world.condition("Stalled").message == MESSAGE
    assert world.condition("Stalled").observed_generation == 1
    assert [w.verb for w in world.writes_about()].count("status") == 1
    assert STALLED_AFTER < world.faulty.decisions < 40, "the backoff is kept"
    assert world.events().count("InternalError") < 10, "repeats are counted"


def test_few_errors_do_not_stall_an_object():
    world = FaultyWorld()
    world.apply_all()
    while world.faulty.decisions < STALLED_AFTER - 1:
        world.clock.advance(next_due(world.queue) or 0.0)
        world.reconciler.run_ready(1)
    assert world.conditions() == {}
    world.faulty.errors = []
    world.retry(1)
    assert world.run().phase is Phase.SUCCEEDED
    assert [c.type for c in world.status().conditions if c.type == "Stalled"] == []


def test_changing_errors_do_not_cause_a_write_each():
    """Each write would be a change of the object, after which it is reconciled at once."""
    world = FaultyWorld()
    world.apply_all()
    world.faulty.errors = [KeyError(SECRET), ValueError(SECRET)]
    world.retry()
    assert [w.verb for w in world.writes_about()].count("status") == 1
    assert world.faulty.decisions < 40


@pytest.mark.parametrize("restarts", [False, True])
def test_job_continues_unchanged_once_a_decision_succeeds(restarts):
    world = FaultyWorld()
    world.faulty.errors = []
    world.apply_all()
    world.until_job("train")
    before = world.conditions()
    world.faulty.errors = [KeyError(SECRET)]
    world.edit(annotations={"some": "change"})
    world.retry(600)
    assert world.conditions() == {
        **{type: condition for type, condition in before.items() if type != "Reconciling"},
        "Stalled": ("True", "InternalError"),
    }
    assert world.status().phase is Phase.QUEUED
    if restarts:
        world.boot()
        world.retry(600)
    world.faulty.errors = []
    world.edit(annotations={"some": "other"})
    world.settle()
    assert world.conditions() == before
    assert world.run().phase is Phase.SUCCEEDED


@pytest.mark.parametrize(("final", "phase"), [(94, Phase.SUCCEEDED), (10, Phase.FAILED)])
def test_job_that_ended_is_as_before_once_a_decision_succeeds(final, phase):
    world = FaultyWorld(script=Script(final=final))
    world.faulty.errors = []
    world.apply_all()
    assert world.run().phase is phase
    before = world.status()
    world.faulty.errors = [KeyError(SECRET)]
    world.edit(ttlSecondsAfterFinished=10**6)
    world.retry()
    reason = "InternalError" if phase is Phase.SUCCEEDED else "GateFailed"
    assert world.conditions()["Stalled"] == ("True", reason)
    world.faulty.errors = []
    world.edit(annotations={"some": "change"})
    world.settle()
    assert {c.observed_generation for c in world.status().conditions} == {2}
    assert without_generations(world.status()) == without_generations(before)


def without_generations(status: FineTuneJobStatus) -> FineTuneJobStatus:
    conditions = [c.model_copy(update={"observed_generation": None}) for c in status.conditions]
    return status.model_copy(update={"conditions": conditions, "observed_generation": None})


def test_job_failed_by_internal_pod_error_stays_stalled():
    """Its condition has the same reason, but another message."""
    world = World(Script(exits={"train": [(1, "Traceback: a bug")] * 9}))
    world.apply_all()
    assert world.run().failure.reason == Reason.INTERNAL_ERROR
    world.edit(ttlSecondsAfterFinished=10**6)
    writes = len(world.status_writes())
    world.boot()
    world.settle()
    assert (world.condition("Stalled").status, world.condition("Stalled").reason) == ("True", "InternalError")
    assert len(world.status_writes()) <= writes + 1


def test_job_stopped_by_a_gate_keeps_its_stop_reason():
    world = FaultyWorld(script=Script(checkpoints=dict(REGRESSING)))
    world.faulty.errors = []
    world.apply_all()
    assert world.run().phase is Phase.STOPPED
    before = world.conditions()
    world.faulty.errors = [KeyError(SECRET)]
    world.edit(annotations={"some": "change"})
    world.retry(600)
    assert world.conditions() == before
    assert "InternalError" in world.events()


def test_gate_is_stalled_until_a_decision_succeeds():
    world = FaultyWorld(GATE)
    world.apply(make_config_map("cases", golden__jsonl=golden_text()), make_gate().obj())
    world.retry()
    assert world.conditions() == {"Stalled": ("True", "InternalError")}
    world.faulty.errors = []
    world.retry()
    assert world.conditions() == {"Ready": ("True", "GoldenRead")}
    world.faulty.errors = [KeyError(SECRET)]
    world.cluster.as_user.replace(
        world.gate() | {"spec": make_gate().obj()["spec"] | {"enforcement": "DryRun"}}
    )
    world.retry()
    assert world.conditions() == {"Ready": ("True", "GoldenRead"), "Stalled": ("True", "InternalError")}
    world.apply(make_config_map("rows", train__jsonl="{}"), make_job().obj())
    world.settle()
    assert world.condition("Ready").reason == Reason.GATE_NOT_READY, "the gate's new spec is not checked yet"
    world.faulty.errors = []
    world.retry()
    assert ready(world)[0] == "True"
    assert world.run().phase is Phase.SUCCEEDED


def test_condition_is_written_after_a_conflict_and_an_outage():
    world = FaultyWorld()
    world.apply_all()
    world.cluster.conflict(3)
    with world.cluster.unavailable():
        world.retry(60)
        assert world.conditions() == {}
    world.retry()
    assert world.conditions() == {"Stalled": ("True", "InternalError")}


def test_other_objects_are_reconciled():
    world = FaultyWorld()
    world.apply_all()
    world.apply(make_job("other").obj())
    world.retry()
    assert world.run("other").phase is Phase.SUCCEEDED


def test_error_in_concerns_is_counted_and_affects_no_other_kind():
    world, counted = FaultyWorld(), list[tuple[str, str]]()
    world.count_failure = lambda kind, reason: counted.append((kind, reason))
    world.faulty.errors, world.faulty.is_blind = [], True
    world.apply(make_gate().obj())
    world.settle()
    world.apply(make_config_map("cases", golden__jsonl=golden_text()))
    world.settle()
    assert ready(world)[0] == "True"
    assert set(counted) == {("FineTuneJob", "InternalError")}


def test_object_that_is_being_deleted_is_not_written():
    world = FaultyWorld()
    job = make_job().obj()
    job["metadata"] |= {"finalizers": ["example.com/hold"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    world.apply(job)
    world.retry()
    assert world.faulty.decisions > STALLED_AFTER
    assert world.writes_about() == []
