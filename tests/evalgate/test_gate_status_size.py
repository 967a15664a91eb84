"""A gate keeps case outcomes in a ConfigMap, so that its status with the records of judged models is
small."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from support.builders import golden_text, make_config_map, make_gate, make_job
from support.world import Object, World, letters
from tunegate_api.meta import MAX_MESSAGE
from tunegate_api.v1alpha2 import EvalGateStatus
from tunegate_api.v1alpha2.error_rate_status import (
    MAX_FLAKY_CASES,
    MAX_SIZES,
    DetectionStatus,
    FalseAlarmStatus,
    RecordedErrorRate,
)
from tunegate_api.v1alpha2.evalgate_status import (
    MAX_BASELINES,
    MAX_ERROR_RATES,
    MAX_RECENT_LOOKS,
    MAX_RECORDS,
    CountedJob,
    JudgedModel,
    Looks,
    RecordedBaseline,
)
from tunegate_api.verdict.outcomes import VerdictState
from tunegate_operator.engine.cluster import Key

LIMIT = 32 * 1024
SHA = "d" * 64


def full_record(number: int, uris: int = 4, uri_bytes: int = 1024) -> JudgedModel:
    """Return the largest possible record with ``uris`` URIs of ``uri_bytes`` bytes."""
    return JudgedModel(
        job=f"{number:02}" + "j" * 61,
        job_uid=f"{number:08}-5d60-4000-8000-00000000abcd",
        step=10**9,
        model_digest=SHA,
        golden_sha256=SHA,
        scoring=SHA[:12],
        passed=1000,
        total=1000,
        base_passed=1000,
        outcomes="p" * 1000,
        verdict="Passed",
        published_uris=[f"pvc://models/{number:02}{i}".ljust(uri_bytes, "u") for i in range(uris)],
        time=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number),
    )


def full_looks(now: datetime) -> Looks:
    """Return the largest possible count of evaluations."""
    job = CountedJob(job_uid="0" * 36, ended=now, checkpoints=10**9, finals=10**9)
    return Looks(
        golden_sha256=make_gate().spec["sets"][0]["sha256"],
        since=now,
        jobs=10**9,
        checkpoints=10**9,
        finals=10**9,
        message="m" * 128,
        recent=[job] * MAX_RECENT_LOOKS,
        counted_until=now,
    )


def world_with_full_status(gate: Object, uris: int = 4, uri_bytes: int = 1024) -> World:
    """Return a world whose gate has as many and as large records in status as possible."""
    world = World()
    world.apply(make_config_map("cases", golden__jsonl=golden_text()), gate)
    records = [full_record(n, uris, uri_bytes) for n in reversed(range(MAX_RECORDS))]
    last = f"{records[0].job}/step-{10**9}"
    now = datetime(2026, 1, 1, tzinfo=UTC)
    baselines = [RecordedBaseline(key=f"{n:064}", sha256=SHA, time=now) for n in range(MAX_BASELINES)]
    rates = [
        RecordedErrorRate(
            base_digest=f"{n:064}",
            golden_sha256=SHA,
            scoring=SHA[:12],
            rules=SHA[:12],
            false_alarm=FalseAlarmStatus(share="0.123", high="0.234"),
            detection=[
                DetectionStatus(points=f"{i}.125", share="0.123", low="0.012", high="0.345")
                for i in range(MAX_SIZES)
            ],
            flaky=1000,
            flaky_cases=["c" * 63] * MAX_FLAKY_CASES if n == MAX_ERROR_RATES - 1 else [],
            evaluations=28,
            seconds=100_000,
            job=f"{n:02}" + "j" * 61,
            time=now + timedelta(minutes=n),
        )
        for n in reversed(range(MAX_ERROR_RATES))
    ]
    old = EvalGateStatus(
        records=records,
        error_rates=rates,
        error_rate="false alarm 12.3 % (at most 23.4 %), finds a 1.125-point drop in 12 % and a 5-point drop "
        "in 34 %",
        last=last,
        pass_rate="1.00",
        base_rate="1.00",
        published_rate="1.00",
        baselines=baselines,
        looks=full_looks(now),
    )
    created = world.gate(gate["metadata"]["name"])
    version = created["metadata"]["resourceVersion"]
    world.cluster.as_user.patch_status(Key.of(created), old.to_wire(), version)
    return world


def status(world: World) -> EvalGateStatus:
    return EvalGateStatus.model_validate(world.gate()["status"])


def records_config_map(world: World) -> Object:
    found = world.cluster.as_user.get(Key("ConfigMap", "default", str(status(world).records_config_map)))
    assert found is not None
    return found


def recorded(world: World) -> list[dict[str, object]]:
    records: list[dict[str, object]] = json.loads(records_config_map(world)["data"]["records.json"])[
        "records"
    ]
    return records


LONGEST_MESSAGES = {
    "unreachable": [f"{n:02}".ljust(60, "m") for n in range(32)],
    "invalid": ["m" * 60] * 32,
}


@pytest.mark.parametrize("why", LONGEST_MESSAGES)
@pytest.mark.parametrize(("uris", "uri_bytes", "kept"), [(4, 1024, 2), (1, 614, 6)])
def test_gate_status_with_the_longest_values_is_below_32_kib(
    why: str, uris: int, uri_bytes: int, kept: int
) -> None:
    gate = make_gate("g" * 63).with_critical(*LONGEST_MESSAGES[why]).obj()
    world = world_with_full_status(gate, uris, uri_bytes)
    assert len(json.dumps(world.gate("g" * 63)["status"])) > LIMIT
    world.settle()
    wire = world.gate("g" * 63)["status"]
    assert len(json.dumps(wire).encode()) < LIMIT
    assert len(wire["baselines"]) == MAX_BASELINES
    named = [len(rate.get("flakyCases", [])) for rate in wire["errorRates"]]
    assert named == [MAX_FLAKY_CASES] + [0] * (MAX_ERROR_RATES - 1)
    messages = [condition["message"] for condition in wire["conditions"]]
    assert [len(message) for message in messages] == [MAX_MESSAGE, MAX_MESSAGE]
    assert [len(r["outcomes"]) for r in wire["records"]] == [1000] * kept + [0] * (MAX_RECORDS - kept)
    assert len(wire["records"][0]["publishedUris"]) == uris


def test_records_that_the_configmap_lacks_are_copied_from_status() -> None:
    world = world_with_full_status(make_gate().obj())
    world.settle()
    assert len(recorded(world)) == MAX_RECORDS
    assert recorded(world)[0] == full_record(MAX_RECORDS - 1).to_wire()
    (owner,) = records_config_map(world)["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("EvalGate", world.gate()["metadata"]["uid"])


def test_outcomes_are_recorded_before_status_lists_the_model() -> None:
    world = World()
    world.apply_all(make_job().with_publish().obj())
    world.run()
    (record,) = status(world).records
    (full,) = recorded(world)
    assert (full["jobUid"], full["outcomes"]) == (record.job_uid, letters(94))
    writes = [(w.verb, w.kind, w.name) for w in world.cluster.writes]
    name = records_config_map(world)["metadata"]["name"]
    assert writes.index(("create", "ConfigMap", name)) < len(writes) - 1
    assert writes[-1][:2] == ("status", "EvalGate")


def test_status_omits_a_record_until_its_outcomes_are_stored() -> None:
    world = World()
    world.apply_all(make_job().with_publish().obj())
    world.until_job("publish")
    world.settle()
    world.cluster.fail("ConfigMap", "failed calling webhook")
    world.run()
    assert status(world).records == []
    world.cluster.fail("ConfigMap", None)
    world.advance(3600)
    assert len(status(world).records) == 1
    assert len(recorded(world)) == 1


def test_gate_status_keeps_the_outcomes_of_a_baseline() -> None:
    """Checkpoints of later jobs are compared with these outcomes."""
    world = World()
    world.apply_all(make_job("first").with_publish().obj())
    world.run("first")
    world.settle()
    (record,) = status(world).records
    assert record.outcomes == letters(94)


def test_status_drops_outcomes_of_a_former_baseline() -> None:
    world = World()
    world.apply_all(make_job("first").with_publish().obj())
    world.run("first")
    world.outbox.clear()
    world.apply(make_job("second").with_publish().obj())
    world.run("second")
    world.settle()
    shown = {record.job: record.outcomes for record in status(world).records}
    assert shown == {"first": "", "second": letters(94)}


def test_records_in_status_are_kept_when_the_configmap_is_deleted() -> None:
    world = World()
    world.apply_all(make_job("first").with_publish().obj())
    world.run("first")
    found = records_config_map(world)
    key = Key("ConfigMap", "default", found["metadata"]["name"])
    world.cluster.as_user.delete(key, found["metadata"]["uid"])
    world.settle()
    assert len(status(world).records) == 1
    assert [r["passed"] for r in recorded(world)] == [94]


def test_baseline_comes_from_status_and_not_from_the_config_map() -> None:
    """More people may write ConfigMaps of a namespace than the status of a gate."""
    world = World()
    world.apply_all(make_job("first").with_publish().obj())
    world.run("first")
    forged = records_config_map(world)
    forged["data"]["records.json"] = forged["data"]["records.json"].replace("p" * 94, "f" * 94)
    world.cluster.as_user.replace(forged)
    world.outbox.clear()
    world.script.final = 89
    world.apply(make_job("second").with_publish().obj())
    failure = world.run("second").failure
    assert failure is not None
    assert "golden 89/100, LastPublished 94/100: -5.0 points, limit -5.0" in failure.message


def test_published_model_that_failed_a_dry_run_is_no_baseline() -> None:
    world = World()
    world.apply_all(make_job("first").with_publish().obj())
    world.run("first")
    world.settle()
    (record,) = status(world).records
    rehearsed = record.model_copy(
        update={
            "job": "rehearsal",
            "job_uid": "rehearsal-uid",
            "passed": 50,
            "outcomes": letters(50),
            "verdict": VerdictState.FAILED,
            "time": record.time + timedelta(seconds=1),
        }
    )
    gate = world.gate()
    old = status(world).model_copy(update={"records": [rehearsed, record]})
    world.cluster.as_user.patch_status(Key.of(gate), old.to_wire(), gate["metadata"]["resourceVersion"])
    world.outbox.clear()
    world.script.final = 89
    world.apply(make_job("second").with_publish().obj())
    failure = world.run("second").failure
    assert failure is not None
    assert "golden 89/100, LastPublished 94/100: -5.0 points, limit -5.0" in failure.message
