"""A gate in a dry run records its verdicts, but blocks nothing and chooses no checkpoint."""

from typing import Any

import pytest

from support.builders import golden_text, make_config_map, make_gate, make_job
from support.graders import JUDGE, with_graders
from support.world import REGRESSING, Script, World
from tunegate_api.v1alpha2 import EvalGateStatus
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.engine.cluster import Object

BOTH = Script(also=("golden-v2",))
"""The pods report the same outcomes for both gates."""


def rehearsal(name: str = "golden-v2", **spec: Any) -> Object:
    """A gate in a dry run that no model in these tests passes."""
    return make_gate(name).with_spec(enforcement="DryRun", **spec).with_limits(minPassRate="99%").obj()


def run_both(script: Script = BOTH, gates: tuple[str, ...] = ("golden", "golden-v2")) -> World:
    """Run a job with an enforced gate and a gate in a dry run."""
    world = World(script)
    world.apply(rehearsal())
    world.apply_all(make_job().with_gates(*gates).with_publish().obj())
    world.run()
    return world


def run_alone(script: Script | None = None) -> World:
    """Run a job whose only gate is in a dry run."""
    world = World(script)
    world.apply_all(make_job().with_publish().obj(), rehearsal("golden"))
    world.run()
    return world


def test_failed_dry_run_is_shown_but_the_model_is_published():
    status = run_both().status()
    assert status.phase is Phase.SUCCEEDED
    assert [p.uri for p in status.published]
    assert status.final is not None
    found = {gate.name: (gate.verdict, gate.dry_run) for gate in status.final.gates}
    assert found == {"golden": ("Passed", None), "golden-v2": ("Failed", True)}
    assert status.message.startswith("passed (golden 0.94), dry run: golden-v2 Failed 0.94, published to ")


def test_checkpoint_events_of_a_failed_dry_run_are_no_warnings():
    world = run_both()
    events = [event for event in world.cluster.events if event[2] == "CheckpointEvaluated"]
    assert {type for _, type, _, _ in events} == {"Normal"}
    assert "golden-v2 Failed (dry run), golden 94/100" in events[-2][3]


def test_failure_names_only_findings_of_enforced_gates():
    failure = run_both(Script(also=("golden-v2",), final=70)).status().failure
    assert failure is not None
    assert failure.message.startswith("golden: golden 70/100 = 0.70, required 0.80")
    assert "golden-v2" not in failure.message


def test_columns_show_the_enforced_gate():
    world = World(Script(also=("a-rehearsal",)))
    advisory = [f"case-{n}" for n in range(94, 100)]
    world.apply(make_gate("a-rehearsal").with_spec(enforcement="DryRun").with_golden(advisory=advisory).obj())
    world.apply_all(make_job().with_gates("a-rehearsal", "golden").obj())
    shown = world.run().display
    assert (shown.golden, shown.gate) == ("0.94", "Passed")


def test_job_without_an_enforced_gate_publishes_and_warns():
    world = run_alone()
    status = world.status()
    assert status.phase is Phase.SUCCEEDED
    assert status.published
    assert status.display.gate == "NotEnforced"
    assert status.message.startswith("no gate is enforced, dry run: golden Failed 0.94, published to ")
    condition = world.condition("GatePassed")
    assert (condition.status, condition.reason) == ("True", Reason.NOT_ENFORCED)
    warnings = [text for _, type, reason, text in world.cluster.events if reason == "NotEnforced"]
    assert warnings == ["no gate is enforced, because golden is in a dry run: only task metrics are checked"]


def test_task_metrics_stay_enforced_if_all_gates_are_dry_runs():
    status = run_alone(Script(test="p" * 4 + "f" * 6)).status()
    assert status.phase is Phase.FAILED
    assert status.failure is not None
    assert status.failure.reason == Reason.GATE_FAILED
    assert status.failure.message == "exact_match 4/10 = 0.40, required 0.50"
    assert status.display.gate == "Failed"


def test_dry_run_does_not_stop_a_regressing_model():
    status = run_alone(Script(checkpoints=REGRESSING)).status()
    assert status.phase is Phase.SUCCEEDED
    assert status.stop is None


def test_dry_run_asks_for_no_approval():
    world = World()
    world.apply_all(make_job().obj(), rehearsal("golden", approval="Always"))
    assert world.run().phase is Phase.SUCCEEDED


def test_rehearsed_gate_blocks_the_next_job_once_it_is_enforced():
    world = run_alone()
    gate = world.gate()
    gate["spec"]["enforcement"] = "Enforce"
    world.cluster.as_user.replace(gate)
    world.apply(make_job("next").with_publish().obj())
    status = world.run("next")
    assert status.phase is Phase.FAILED
    assert status.failure is not None
    assert status.failure.reason == Reason.NO_PASSING_CHECKPOINT
    assert "required 0.99" in status.failure.message
    assert not status.published


def test_dry_run_record_stays_so_after_the_gate_is_enforced():
    world = run_alone()
    gate = world.gate()
    gate["spec"]["enforcement"] = "Enforce"
    world.cluster.as_user.replace(gate)
    world.settle()
    (record,) = EvalGateStatus.model_validate(world.gate()["status"]).records
    assert (record.verdict, record.dry_run, record.is_baseline) == ("Failed", True, False)


def test_version_that_passed_a_dry_run_is_dry_run_baseline():
    skipped = {}
    for dry_run in (True, False):
        world = World()
        world.apply_all(make_job().with_publish().obj(), make_gate().with_spec(enforcement="DryRun").obj())
        world.run()
        gate = world.gate()
        gate["spec"]["enforcement"] = "DryRun" if dry_run else "Enforce"
        world.cluster.as_user.replace(gate)
        world.apply(make_job("next").with_publish().obj())
        skipped[dry_run] = world.run("next").checkpoints[-1].gates[0].skipped
    assert skipped == {True: [], False: ["LastPublished"]}


def test_invalid_gate_in_a_dry_run_is_left_out():
    world = World()
    gate = rehearsal()
    safety = {"name": "safety", "kind": "Safety", "source": {"builtin": "refusals-v1"}}
    gate["spec"]["sets"].append(safety | {"grader": "missing"})
    world.apply(gate)
    world.apply_all(make_job().with_gates("golden", "golden-v2").with_publish().obj())
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    assert status.final is not None
    found, why = status.final.gates[1], "EvalGate golden-v2 is in a dry run and was not ready: "
    assert (found.name, found.verdict, found.dry_run) == ("golden-v2", "Error", True)
    assert found.message.startswith(f"not judged: {why}")
    assert status.data is not None
    assert status.data.warnings[0].startswith(why)


def test_job_waits_minutes_for_a_dry_runs_golden_set():
    world = World(BOTH)
    world.apply(make_gate("golden-v2", "late").with_spec(enforcement="DryRun").obj())
    world.apply_all(make_job().with_gates("golden", "golden-v2").obj())
    world.settle()
    assert (world.status().phase, world.status().ready_reason) == (Phase.PENDING, Reason.GATE_NOT_READY)
    world.advance(299)
    assert world.status().request is None
    world.advance(1)
    assert world.status().request
    assert world.run().phase is Phase.SUCCEEDED


@pytest.mark.parametrize("dry_run", [True, False])
def test_missing_calibration_rows_block_no_job_in_a_dry_run(dry_run):
    world = World()
    gate = make_gate("golden-v2").with_spec(enforcement="DryRun" if dry_run else "Enforce").obj()
    gate["spec"] = with_graders(gate["spec"], JUDGE)
    world.apply(gate)
    world.apply_all(make_job().with_gates("golden", "golden-v2").obj())
    world.settle()
    assert world.status().ready_reason == Reason.CONFIG_MAP_NOT_FOUND
    world.advance(300)
    if not dry_run:
        assert world.status().request is None
        return
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    assert status.data is not None
    missing = "ConfigMap scored does not exist in this namespace"
    assert status.data.warnings[0] == f"EvalGate golden-v2 is in a dry run and was not ready: {missing}"


def test_pods_do_not_wait_for_dry_run_config_maps():
    world = World(BOTH)
    world.apply(make_config_map("other-cases", golden__jsonl=golden_text()))
    world.apply(make_gate("golden-v2", "other-cases").with_spec(enforcement="DryRun").obj())
    world.apply_all(make_job().with_gates("golden", "golden-v2").obj())
    world.settle()
    (job,) = world.active_jobs()
    volumes = job["spec"]["template"]["spec"]["volumes"]
    optional = {
        v["configMap"]["name"]: v["configMap"].get("optional", False) for v in volumes if "configMap" in v
    }
    assert (optional["rows"], optional["cases"], optional["other-cases"]) == (False, False, True)


def claims(world: World) -> set[str]:
    (job,) = world.active_jobs()
    volumes = job["spec"]["template"]["spec"]["volumes"]
    return {v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v}


def world_with_claim(*, dry_run: bool, **spec: Any) -> World:
    """A job whose data pod is not yet created, and mounts the claim ``cases``, which another gate names."""
    world = World(BOTH)
    gate = make_gate("golden-v2").with_spec(enforcement="DryRun" if dry_run else "Enforce")
    gate.spec["sets"][0]["source"] = {"uri": "pvc://cases/golden.jsonl"}
    world.apply(gate.obj())
    enforced = make_gate().with_spec(compareWith=[{"type": "BaseModel"}])
    world.apply_all(make_job().with_gates("golden", "golden-v2").with_spec(**spec).obj(), enforced.obj())
    world.settle()
    assert claims(world) == {"tuning", "cases"}
    return world


def world_without_claim(*, dry_run: bool, **spec: Any) -> World:
    """A job whose data pod waits for the claim ``cases``, which another gate names."""
    world = world_with_claim(dry_run=dry_run, **spec)
    message = '0/3 nodes are available: persistentvolumeclaim "cases" not found.'
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    (job,) = world.active_jobs()
    world.cluster.pending_pod(job["metadata"]["name"], status={"phase": "Pending", "conditions": [condition]})
    world.settle()
    assert (world.status().ready_reason, world.status().message) == (
        Reason.VOLUME_NOT_READY,
        f"data: {message}",
    )
    return world


def test_missing_claim_of_a_dry_run_blocks_only_for_minutes():
    world = world_without_claim(dry_run=True)
    world.advance(298)
    assert claims(world) == {"tuning", "cases"}
    world.advance(5)
    assert claims(world) == {"tuning"}
    (ended,) = world.status().attempts
    assert (ended.role, ended.number, ended.result) == ("data", 1, Reason.VOLUME_NOT_READY)
    assert world.run().phase is Phase.SUCCEEDED


def test_missing_dry_run_claim_uses_half_of_short_start_timeout():
    world = world_without_claim(dry_run=True, startTimeoutSeconds=120)
    world.advance(61)
    assert claims(world) == {"tuning"}
    world.advance(100)
    assert world.status().failure is None
    assert world.run().phase is Phase.SUCCEEDED


def test_publish_target_is_mounted_after_another_claim_was_missing():
    """Only the gate in a dry run compares with the published version, but the job publishes there."""
    world = world_without_claim(dry_run=True, publish=[{"uri": "pvc://models/orders"}])
    world.advance(301)
    world.until_job("gate")
    assert claims(world) == {"tuning", "models"}


def test_forged_event_about_a_missing_claim_ends_no_attempt():
    world = world_with_claim(dry_run=True)
    (job,) = world.active_jobs()
    message = 'persistentvolumeclaim "cases" not found'
    world.cluster.as_user.record_event(job, "Warning", "FailedCreate", message)
    world.advance(600)
    assert world.status().ready_reason == Reason.VOLUME_NOT_READY
    assert claims(world) == {"tuning", "cases"}
    assert world.status().attempts == []


def test_job_waits_for_the_missing_claim_of_an_enforced_gate():
    world = world_without_claim(dry_run=False)
    world.advance(600)
    assert claims(world) == {"tuning", "cases"}
    assert world.status().ready_reason == Reason.VOLUME_NOT_READY


def test_enforced_gate_that_is_not_ready_is_never_left_out():
    world = World()
    world.apply(make_gate("golden-v2", "late").obj())
    world.apply_all(make_job().with_gates("golden", "golden-v2").obj())
    world.settle()
    world.advance(3000)
    assert (world.status().phase, world.status().ready_reason) == (Phase.PENDING, Reason.GATE_NOT_READY)
