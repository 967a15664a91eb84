"""A regression stops training, and a person decides to continue or to discard the job."""

import json

import pytest

from support.builders import make_gate, make_job
from support.world import REGRESSING, Script, World
from tunegate_api.contract.results import Subject
from tunegate_api.v1alpha2.finetunejob_status import MAX_DECISIONS
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.engine.cluster import Key
from tunegate_operator.names import CONTINUE_ANNOTATION, DISCARD_ANNOTATION


def stopped() -> World:
    world = World(Script(checkpoints=REGRESSING))
    world.apply_all(make_job().with_publish().obj())
    world.run()
    return world


def decide(
    world: World, annotation: str, reason: str = "label noise, accepted", stop: str | None = None
) -> None:
    found = world.status().stop
    assert found is not None
    text = json.dumps({"stop": stop or found.id, "reason": reason})
    world.edit(annotations={annotation: text})
    world.settle()


def test_confirmed_regression_stops_training_and_names_the_cases():
    world = stopped()
    status = world.status()
    assert status.phase is Phase.STOPPED
    assert status.stop is not None
    assert status.stop.message == (
        "golden 85/100 at step 35, best 95/100 at step 20: -10.0 points, limit -5.0, confirmed"
    )
    assert (status.stop.step, status.stop.steps_saved, status.stop.regressed_count) == (35, 15, 10)
    assert status.stop.regressed_cases == [f"case-{i}" for i in range(85, 95)]
    assert status.stop.best_step == 20
    assert status.display.gate == "Failed"
    assert world.condition("Stalled").reason == "GoldenRegression"
    assert world.condition("Regressing").status == "True"


def test_first_drop_and_confirmed_regression_emit_different_warnings():
    world = stopped()
    warnings = [(reason, message) for _, type, reason, message in world.cluster.events if type == "Warning"]
    assert [reason for reason, _ in warnings] == ["GoldenRegressing", "GoldenRegression"]
    assert warnings[0][1] == "golden 87/100 at step 30, best 95/100 at step 20: -8.0 points, limit -5.0"
    assert "Training stopped, step 20 kept" in warnings[1][1]
    assert warnings[1][1].endswith('tunegate continue|discard orders --namespace default --reason "…"')


def test_stopped_job_starts_nothing_until_a_person_decides():
    world = stopped()
    before = world.jobs()
    world.advance(24 * 3600)
    world.reconciler.resync()
    world.settle()
    assert world.jobs() == before
    assert world.status().phase is Phase.STOPPED


def test_continue_resumes_after_the_stop_and_records_the_reason():
    world = stopped()
    decide(world, CONTINUE_ANNOTATION)
    status = world.status()
    assert status.stop is None
    assert [(d.action, d.reason, d.step) for d in status.decisions] == [
        ("continue", "label noise, accepted", 35)
    ]
    train = next(j for j in world.active_jobs())
    assert train["spec"]["template"]["spec"]["containers"][0]["args"][-2:] == ["--accepted-step", "35"]
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    assert status.best_checkpoint is not None
    assert status.best_checkpoint.step == 40


def test_discard_fails_the_job():
    world = stopped()
    decide(world, DISCARD_ANNOTATION, reason="the data was wrong")
    status = world.status()
    assert status.phase is Phase.FAILED
    assert status.failure is not None
    assert status.failure.reason == Reason.DISCARDED
    assert status.failure.message == "discarded at step 35: the data was wrong"


def test_decision_about_an_unknown_stop_is_ignored_with_a_message():
    world = stopped()
    decide(world, CONTINUE_ANNOTATION, stop="sft-1-20")
    status = world.status()
    assert status.stop is not None
    assert status.phase is Phase.STOPPED
    assert status.message.startswith(
        f"annotation tunegate.dev/continue names stop sft-1-20, but the current stop is {status.stop.id}"
    )
    assert "golden 85/100 at step 35" in status.message


def test_decision_about_an_earlier_stop_is_ignored_without_a_message():
    world = World(Script(checkpoints={10: 95, 20: 85, 30: 85, 35: 95, 40: 75, 45: 75, 50: 99}))
    world.apply_all()
    world.run()
    decide(world, CONTINUE_ANNOTATION)
    status = world.run()
    assert status.stop is not None
    assert status.stop.step == 45
    assert status.message == status.stop.message


@pytest.mark.parametrize("decision", [{"reason": "  "}, {}])
def test_decision_without_a_reason_is_ignored_with_a_message(decision):
    world = stopped()
    stop = world.status().stop
    assert stop is not None
    world.edit(annotations={CONTINUE_ANNOTATION: json.dumps({"stop": stop.id, **decision})})
    world.settle()
    status = world.status()
    assert status.phase is Phase.STOPPED
    assert status.message.startswith("annotation tunegate.dev/continue gives no reason. golden 85/100")


NESTED = pytest.param("[" * 4000, id="nested deeply")


@pytest.mark.parametrize("written", ["{", "null", "[]", "5", '"go on"', "{}", NESTED])
def test_malformed_annotation_is_ignored_with_the_expected_format(written):
    world = stopped()
    world.edit(annotations={DISCARD_ANNOTATION: written})
    world.settle()
    status = world.status()
    assert status.phase is Phase.STOPPED
    assert status.stop is not None
    assert status.message.startswith(
        f'annotation tunegate.dev/discard must be {{"stop": "{status.stop.id}", "reason": "…"}}. golden'
    )


@pytest.mark.parametrize("annotation", [CONTINUE_ANNOTATION, DISCARD_ANNOTATION])
def test_decision_that_is_too_long_is_ignored_with_the_limit(annotation):
    world = stopped()
    stop = world.status().stop
    assert stop is not None
    world.edit(annotations={annotation: json.dumps({"stop": stop.id, "reason": "x" * 4096})})
    world.settle()
    status = world.status()
    assert status.phase is Phase.STOPPED
    assert status.message.startswith(
        f"annotation {annotation} is empty, or longer than 4096 bytes as JSON: write "
    )


def test_malformed_discard_does_not_hide_a_continue():
    world = stopped()
    world.edit(annotations={DISCARD_ANNOTATION: "{"})
    decide(world, CONTINUE_ANNOTATION)
    assert world.status().phase is not Phase.STOPPED


def test_regression_after_continue_stops_training_again():
    world = World(Script(checkpoints={10: 95, 20: 80, 25: 80, 30: 70, 35: 70, 50: 99}))
    world.apply_all()
    world.run()
    decide(world, CONTINUE_ANNOTATION)
    status = world.run()
    assert status.phase is Phase.STOPPED
    assert status.stop is not None
    assert status.stop.message == (
        "golden 70/100 at step 35, best 80/100 at step 25: -10.0 points, limit -5.0, confirmed"
    )


def test_immediate_policy_stops_at_the_first_drop():
    world = World(Script(checkpoints=REGRESSING))
    world.apply_all(gate=make_gate().with_golden(checkpoints={"onRegression": "Immediate"}).obj())
    status = world.run()
    assert status.stop is not None
    assert status.stop.step == 30


def test_failed_must_pass_case_stops_training_at_once():
    world = World(Script(base=95, checkpoints={10: 93, 20: 99, 50: 99}))
    world.apply_all(gate=make_gate().with_critical("case-94").obj())
    status = world.run()
    assert status.stop is not None
    assert (status.stop.reason, status.stop.step) == (Reason.MUST_PASS_FAILED, 10)
    assert status.stop.best_step is None


def test_stop_without_a_regression_is_a_gate_error(monkeypatch):
    world = World()
    monkeypatch.setattr(world, "_is_stopped", lambda results, _: bool(results.find(Subject.CHECKPOINT)))
    world.apply_all()
    status = world.run()
    assert status.failure is not None
    assert status.failure.reason == Reason.GATE_ERROR
    assert "but its case results give no reason to stop" in status.failure.message


def test_regression_that_the_trainer_ignores_stops_the_job(monkeypatch):
    world = World(Script(checkpoints={10: 95, 40: 85, 50: 84}))
    monkeypatch.setattr(world, "_is_stopped", lambda *_: False)
    world.apply_all()
    assert world.run().phase is Phase.STOPPED


def test_every_decision_emits_an_event_and_status_keeps_the_newest():
    times = MAX_DECISIONS + 2
    falls = {3 * n + step: passed for n in range(times) for step, passed in ((1, 95), (2, 85), (3, 85))}
    world = World(Script(checkpoints=falls | {50: 99}))
    world.apply_all()
    for n in range(times):
        assert world.run().phase is Phase.STOPPED
        decide(world, CONTINUE_ANNOTATION, reason=f"accepted {n}")
    assert world.run().phase is Phase.SUCCEEDED
    assert world.events().count("Decided") == times
    expected = [f"accepted {n}" for n in range(times)][-MAX_DECISIONS:]
    assert [decision.reason for decision in world.status().decisions] == expected


def test_earlier_jobs_stop_decision_is_not_used():
    world = stopped()
    decide(world, CONTINUE_ANNOTATION)
    assert world.run().phase is Phase.SUCCEEDED
    earlier = world.job()
    world.cluster.as_user.delete(Key.of(earlier), earlier["metadata"]["uid"])
    world.outbox.clear()
    again = make_job().with_publish().obj()
    again["metadata"]["annotations"] = earlier["metadata"]["annotations"]
    world.apply(again)
    status = world.run()
    assert status.phase is Phase.STOPPED
    assert status.message.startswith("annotation tunegate.dev/continue names stop sft-1-35-")
    assert status.decisions == []
