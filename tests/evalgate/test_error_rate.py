"""A job measures the error rate of a gate; the gate keeps it, shows it, and is not ready if it is too low."""

from datetime import timedelta
from typing import Any

import pytest

from support.builders import golden_text, make_gate, make_job
from support.gate_status import ready, status
from support.world import DIGEST, Object, Script, World, letters
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.process import Role
from tunegate_api.contract.report import Report
from tunegate_api.contract.request import Request
from tunegate_api.contract.results import ErrorRateOutcomes, PlantedRegression
from tunegate_api.meta import find_condition
from tunegate_api.v1alpha2 import EvalGate, EvalGateStatus
from tunegate_api.v1alpha2.evalgate_status import MAX_ERROR_RATES, GateReason
from tunegate_api.v1alpha2.finetunejob_status import FineTuneJobStatus
from tunegate_api.v1alpha2.reasons import Phase
from tunegate_api.verdict.outcomes import VerdictState
from tunegate_operator.engine.cluster import Key
from tunegate_operator.finetunejob.last_report import POST_SECONDS
from tunegate_operator.names import REQUEST_KEY, request_name

POINTS = {"minPassRate": "80%"}
NON_INFERIOR = {"minPassRate": "80%", "test": "NonInferior"}
TEXT = "false alarm 0.0 % (at most 0.1 %), finds a 5-point drop in 56 %"


def gate(limits: dict[str, Any] | None = None, minimum: str | None = None, **spec: Any) -> Object:
    wanted = {"repeats": 4} | ({"minDetection": minimum} if minimum else {})
    return make_gate().with_limits(**(limits or POINTS)).with_spec(errorRate=wanted, **spec).obj()


def outcomes(of_gate: Object, worse: int = 20, repeat: str = "", **changes: Any) -> ErrorRateOutcomes:
    """Return outcomes in which ``worse`` cases regress in the planted regression."""
    found = EvalGate.model_validate(of_gate)
    reference = letters(94)
    planted = "f" * worse + reference[worse:]
    measured = ErrorRateOutcomes(
        golden_sha256=sha256_text(golden_text()),
        base_digest=DIGEST,
        scoring=found.spec.scoring,
        reference=reference,
        repeats=[repeat or reference] * 4,
        planted=[PlantedRegression(name="strength 0.5", outcomes=planted)],
        evaluations=6,
        seconds=30.4,
    )
    return measured.model_copy(update=changes)


def run(
    limits: dict[str, Any] | None = None,
    minimum: str | None = None,
    worse: int = 20,
    repeat: str = "",
    **changes: Any,
) -> tuple[World, FineTuneJobStatus]:
    wanted = gate(limits, minimum)
    world = World(Script(error_rates={"golden": outcomes(wanted, worse, repeat, **changes)}))
    world.apply_all(gate=wanted)
    return world, world.run()


def request(world: World, name: str) -> Request:
    uid = world.job(name)["metadata"]["uid"]
    found = world.cluster.as_user.get(Key("ConfigMap", "default", request_name(name, uid)))
    assert found is not None
    return Request.model_validate_json(found["data"][REQUEST_KEY])


def run_another(world: World, name: str, worse: int | None = None) -> FineTuneJobStatus:
    """Run another job. It measures the error rate if ``worse`` is given."""
    world.outbox.clear()
    world.script.error_rates = None
    if worse is not None:
        world.script.error_rates = {"golden": outcomes(world.gate(), worse)}
    world.clock.advance(60)
    world.apply(make_job(name).obj())
    return world.run(name)


def set_limits(world: World, limits: dict[str, Any]) -> None:
    found = world.gate()
    found["spec"]["sets"][0]["rules"] = [{"name": "all", **limits}]
    world.cluster.as_user.replace(found)
    world.settle()


def test_job_and_gate_state_the_measured_error_rate():
    world, job = run()
    assert job.phase is Phase.SUCCEEDED
    assert job.final is not None
    assert TEXT in job.final.gates[0].message
    assert [rate.gate for rate in job.error_rates] == ["golden"]
    assert status(world).error_rate == TEXT
    (rate,) = status(world).error_rates
    assert (rate.job, rate.evaluations, rate.seconds, rate.flaky) == ("orders", 6, 30, 0)
    assert [one.points for one in rate.detection] == ["2.5", "5", "7.5", "10", "15"]
    assert (rate.false_alarm.share, rate.false_alarm.high) == ("0.000", "0.001")


def test_gate_names_the_cases_that_flip():
    world, _ = run(repeat="f" + letters(93, 99))
    (rate,) = status(world).error_rates
    assert (rate.flaky, rate.flaky_cases) == (1, ["case-0"])


def test_error_rate_without_minimum_never_blocks():
    world, job = run(worse=3)
    assert job.phase is Phase.SUCCEEDED
    assert status(world).error_rate == "false alarm 0.0 % (at most 0.1 %), detection unknown"
    assert ready(world)[0] == "True"


def test_later_job_with_same_base_does_not_measure_again():
    world, _ = run()
    assert request(world, "orders").gates[0].measured_bases is None
    assert run_another(world, "second").phase is Phase.SUCCEEDED
    assert request(world, "second").gates[0].measured_bases == [DIGEST]
    assert status(world).error_rate == TEXT


def test_job_without_measured_error_rate_ends_with_gate_error():
    wanted = gate(NON_INFERIOR, "80%")
    world = World()
    world.apply_all(gate=wanted)
    job = world.run()
    assert job.final is not None
    assert job.final.verdict is VerdictState.ERROR
    assert job.failure is not None
    assert "the error rate was not measured: no evaluations for it were reported" in job.failure.message


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"golden_sha256": "e" * 64}, "its evaluations have another golden set or other settings"),
        ({"scoring": "other"}, "its evaluations have another golden set or other settings"),
        ({"base_digest": "e" * 64}, "its evaluations are of another base model"),
        ({"reference": letters(95)}, "its evaluations are of another model"),
        ({"repeats": []}, "0 repeats and 1 planted regressions were reported"),
    ],
)
def test_evaluations_of_other_models_measure_no_error_rate(changes: dict[str, Any], problem: str):
    world, job = run(NON_INFERIOR, "80%", **changes)
    assert job.final is not None
    assert job.final.verdict is VerdictState.ERROR
    assert problem in job.final.gates[0].message
    assert (job.error_rates, status(world).error_rates) == ([], [])


def test_low_detection_is_inconclusive_and_the_gate_is_not_ready():
    world, job = run(minimum="80%")
    assert job.final is not None
    assert job.final.verdict is VerdictState.INCONCLUSIVE
    message = (
        f"{TEXT}; detection of a 5-point drop at least 56.0 %, required 80 %: "
        "set test: NonInferior for the rule, or a lower maxNewFailures"
    )
    assert job.final.gates[0].message == message
    value, reason, text = ready(world)
    assert (value, reason) == ("False", GateReason.LOW_DETECTION)
    assert text == message.replace("; ", ", measured by FineTuneJob orders; ", 1)
    assert find_condition(status(world).conditions, "Stalled") is not None
    assert run_another(world, "second").phase is Phase.PENDING


def test_gate_with_low_detection_is_ready_after_rules_change():
    world, _ = run(minimum="80%")
    set_limits(world, NON_INFERIOR | {"failAtDrop": "10%"})
    assert ready(world)[0] == "True"
    assert status(world).error_rate is None
    assert run_another(world, "second", worse=30).phase is Phase.SUCCEEDED
    assert request(world, "second").gates[0].measured_bases is None
    assert ready(world)[0] == "True"


def test_restart_keeps_the_transition_time_of_a_gates_ready_condition():
    world, _ = run(minimum="80%")
    before = find_condition(status(world).conditions, "Ready")
    world.clock.advance(3600)
    world.boot()
    world.settle()
    assert find_condition(status(world).conditions, "Ready") == before


def test_enough_detection_passes():
    limits = NON_INFERIOR | {"failAtDrop": "10%"}
    world, job = run(limits, "90%", worse=30)
    assert job.phase is Phase.SUCCEEDED
    assert ready(world)[0] == "True"


def test_limit_with_many_digits_is_found_in_the_error_rate():
    _, job = run({"test": "NonInferior", "failAtDrop": "9.123%"}, "90%", worse=30)
    assert job.phase is Phase.SUCCEEDED


def test_too_small_planted_regressions_are_measured_by_next_job():
    world, job = run(NON_INFERIOR | {"failAtDrop": "10%"}, "80%", worse=3)
    assert job.final is not None
    assert job.final.verdict is VerdictState.INCONCLUSIVE
    assert "the planted regressions are worse by at most 3.0 points" in job.final.gates[0].message
    assert ready(world)[0] == "True"
    run_another(world, "second", worse=30)
    assert request(world, "second").gates[0].measured_bases is None


def test_error_rates_are_kept_after_their_job_is_deleted():
    world, _ = run()
    for obj in (*world.cluster.as_user.list_objects("Job"), world.job()):
        world.cluster.as_user.delete(Key.of(obj), obj["metadata"]["uid"])
    world.settle()
    assert status(world).error_rate == TEXT


def test_gate_keeps_the_newest_error_rates():
    world, _ = run()
    for number in range(MAX_ERROR_RATES + 1):
        set_limits(world, POINTS | {"maxNewFailures": 20 + number})
        run_another(world, f"job-{number}", worse=20)
    jobs = [rate.job for rate in status(world).error_rates]
    assert jobs == [f"job-{number}" for number in reversed(range(1, MAX_ERROR_RATES + 1))]


def test_gate_ignores_error_rates_of_jobs_with_other_gates():
    world, _ = run()
    world.apply(make_gate("other").with_spec(errorRate={}).obj())
    world.settle()
    assert EvalGateStatus.model_validate(world.gate("other")["status"]).error_rates == []


def gating(wanted: Object, measured: ErrorRateOutcomes | None = None) -> World:
    """Return a world whose gate pod has reported the evaluation of the artifact, which it does before it
    measures the error rate. It completed with an error rate, but its last report has not arrived."""
    world = World(Script(error_rates={"golden": measured} if measured else None), posts=True)
    world.apply_all(gate=wanted)
    world.until_job("gate")
    (job,) = world.active_jobs()
    early = Report(
        job_uid=world.job()["metadata"]["uid"],
        role=Role.GATE,
        attempt=1,
        sequence=1,
        time=world.clock.now(),
        results=world.script.final_results(40),
    )
    world.cluster.start_pod(job["metadata"]["name"])
    world.outbox[early.file_name] = early
    world.reconciler.handle_report(early.to_wire())
    world.settle()
    world.script.error_rates = {"golden": outcomes(wanted, 30)}
    world.is_reachable = False
    world.tick()
    world.settle()
    return world


@pytest.mark.parametrize("earlier", [None, letters(95)])
def test_job_waits_for_the_report_with_the_error_rate(earlier: str | None):
    """An earlier attempt, which was interrupted, may have measured it for other outcomes."""
    wanted = gate(NON_INFERIOR | {"failAtDrop": "10%"}, "90%")
    world = gating(wanted, outcomes(wanted, 30, reference=earlier) if earlier else None)
    assert "waiting for its last report" in world.status().message
    world.advance(POST_SECONDS)
    world.is_reachable = True
    assert world.run().phase is Phase.SUCCEEDED
    assert status(world).error_rate is not None


def test_job_does_not_wait_for_dry_run_error_rate():
    world = gating(gate(NON_INFERIOR | {"failAtDrop": "10%"}, "90%", enforcement="DryRun"))
    job = world.status()
    assert job.phase is Phase.SUCCEEDED
    assert job.final is not None
    assert job.final.gates[0].verdict is VerdictState.ERROR


def test_base_with_low_detection_is_measured_by_next_job():
    """The gate is ready, because the newest error rate is that of another base model."""
    limits = NON_INFERIOR | {"failAtDrop": "10%"}
    world, _ = run(limits, "90%", worse=30)
    found = world.gate()
    (rate,) = status(world).error_rates
    low = [one.model_copy(update={"low": "0.300"}) for one in rate.detection]
    low_rate = rate.model_copy(update={"detection": low})
    newer = rate.model_copy(update={"base_digest": "e" * 64, "time": rate.time + timedelta(minutes=1)})
    changed = status(world).model_copy(update={"error_rates": [newer, low_rate]})
    world.cluster.as_user.delete(Key.of(world.job()), world.job()["metadata"]["uid"])
    world.cluster.as_user.patch_status(Key.of(found), changed.to_wire(), found["metadata"]["resourceVersion"])
    world.settle()
    assert ready(world)[0] == "True"
    run_another(world, "second", worse=30)
    assert request(world, "second").gates[0].measured_bases == ["e" * 64]
