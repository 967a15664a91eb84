"""The artifact is compared with the published version that the gate and publish pods read at the publish
targets."""

import json

import pytest

from support.builders import golden_text, make_job
from support.graders import GUARDRAIL
from support.world import Script, World, letters
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.published import LastPublished, PublishedVersion
from tunegate_api.contract.request import Request
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.engine.cluster import Key
from tunegate_operator.names import REQUEST_KEY, results_name

VERSION = "pvc://models/orders/rival-1a2b3"


def reading(number: int, passed: int = 94, problem: str | None = None) -> LastPublished:
    version = PublishedVersion(
        job="rival",
        by_case=True,
        golden_sha256=sha256_text(golden_text()),
        outcomes="" if problem else letters(passed),
        version=VERSION,
        problem=problem,
    )
    return LastPublished(reading=number, versions={"golden": version})


def test_job_worse_than_a_version_published_meanwhile_fails():
    world = World(Script(final=80, publish_reads=reading(1)))
    world.apply_all(make_job().with_publish().obj())
    status = world.run()
    assert status.phase is Phase.FAILED
    assert status.failure is not None
    assert status.failure.reason == Reason.GATE_FAILED
    expected = (
        "golden: golden 80/100, LastPublished (rival-1a2b3) 94/100: -14.0 points, limit -5.0; "
        "new failures 14, at most 9: case-80, case-81, case-82, case-83, case-84 and 9 more"
    )
    assert status.failure.message == expected
    assert status.failure.hint.startswith("Nothing was published.")
    assert status.published == []
    assert world.condition("GatePassed").status == "False"
    assert world.condition("Published").status == "False"


def test_failure_hint_names_the_only_target_that_has_the_model():
    world = World(Script(final=80, publish_reads=reading(1)))
    targets = [{"uri": "pvc://models/first"}, {"uri": "pvc://models/second"}]
    world.apply_all(make_job().with_spec(publish=targets).obj())
    status = world.run()
    assert status.failure is not None
    assert status.failure.reason == Reason.GATE_FAILED
    (published,) = status.published
    assert status.failure.hint.startswith(f"Published only to {published.uri}.")


def test_gate_without_a_record_compares_with_published_evidence():
    world = World(Script(final=80, gate_reads=reading(1)))
    world.apply_all(make_job().with_publish().obj())
    assert world.gate().get("status", {}).get("records", []) == []
    status = world.run()
    assert status.failure is not None
    assert "LastPublished (rival-1a2b3) 94/100: -14.0 points" in status.failure.message
    assert [name for name in world.jobs() if "-publish-" in name] == []


@pytest.mark.parametrize(
    ("changes", "is_compared"),
    [
        ({"approval": "Always"}, True),
        ({"generation": {"maxNewTokens": 9}}, False),
        ({"graders": [GUARDRAIL]}, False),
    ],
)
def test_checkpoints_are_not_compared_with_outcomes_of_other_settings(changes, is_compared):
    world = World()
    world.apply_all(make_job("first").with_publish().obj())
    world.run("first")
    gate = world.gate()
    gate["spec"] |= changes
    world.cluster.as_user.replace(gate)
    world.apply(make_job("second").with_publish().obj())
    world.settle()
    (recorded,) = [
        each["data"][REQUEST_KEY]
        for each in world.cluster.as_user.list_objects("ConfigMap")
        if each["metadata"]["name"].startswith("second-request")
    ]
    last = Request.model_validate_json(recorded).gate("golden").last_published
    assert (last is not None) is is_compared


def test_unreadable_evidence_is_a_gate_error():
    world = World(Script(gate_reads=reading(1, problem="its evidence/verdict.json was changed")))
    world.apply_all(make_job().with_publish().obj())
    status = world.run()
    assert status.failure is not None
    assert status.failure.reason == Reason.GATE_ERROR
    expected = "Cannot compare with LastPublished (rival-1a2b3): its evidence/verdict.json was changed"
    assert expected in status.failure.message


def test_checkpoints_are_not_compared_with_a_version_published_later():
    world = World(Script(gate_reads=reading(1, passed=95)))
    world.apply_all(make_job().with_publish().obj())
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    assert {tuple(c.gates[0].skipped) for c in status.checkpoints} == {("LastPublished",)}
    assert status.final is not None
    assert status.final.gates[0].skipped == []
    assert status.final.gates[0].golden is not None
    assert status.final.gates[0].golden.delta_points["LastPublished"] == "-1.0"


def test_results_configmap_records_the_published_version_of_the_comparison():
    world = World(Script(gate_reads=reading(1, passed=95)))
    world.apply_all(make_job().with_publish().obj())
    world.run()
    name = results_name("orders", world.job()["metadata"]["uid"])
    recorded = world.cluster.as_user.get(Key("ConfigMap", "default", name))
    assert recorded is not None
    versions = json.loads(recorded["data"]["results.json"])["lastPublished"]["versions"]
    assert versions["golden"]["version"] == VERSION


def test_gate_pod_mounts_the_publish_claims_read_only():
    world = World()
    world.apply_all(make_job().with_publish("pvc://archive/orders").obj())
    world.until_job("gate")
    (job,) = world.active_jobs()
    (container,) = job["spec"]["template"]["spec"]["containers"]
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert mounts["/tunegate/volumes/archive"]["readOnly"] is True
