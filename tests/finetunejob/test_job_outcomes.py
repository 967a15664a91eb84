"""A job from its creation to its end on the fake cluster. A script simulates its pods."""

import json

import pytest

from support.builders import make_gate, make_job
from support.fake_cluster import image_id
from support.world import DIGEST, Script, World, failed
from tunegate_api.contract.process import ExitCode
from tunegate_api.contract.request import Request
from tunegate_api.contract.results import Results, Subject
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.engine.cluster import Key
from tunegate_operator.engine.objects import uid_of
from tunegate_operator.names import results_name


def test_passing_job_is_judged_and_published():
    world = World()
    world.apply_all(make_job().with_publish().obj())
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    assert [c.step for c in status.checkpoints] == [10, 20, 30, 40, 50]
    assert status.best_checkpoint is not None
    assert status.best_checkpoint.step == 40
    assert status.final is not None
    assert status.final.verdict == "Passed"
    assert [p.uri for p in status.published] == [f"pvc://models/orders/{world.job()['metadata']['uid']}"]
    assert {c.type: c.status for c in status.conditions} == {
        "Ready": "True",
        "DataReady": "True",
        "Trained": "True",
        "GatePassed": "True",
        "Published": "True",
        "Regressing": "False",
        "Failed": "False",
    }


def test_job_without_publish_targets_starts_no_publish_pod():
    world = World()
    world.apply_all()
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    assert not any("publish" in name for name in world.jobs())


def test_phases_and_checkpoints_are_emitted_as_events_in_order():
    world = World()
    world.apply_all(make_job().with_publish().obj())
    world.run()
    assert world.events() == [
        "Pending",
        "Validating",
        "DataReady",
        "Queued",
        "Training",
        *["CheckpointEvaluated"] * 5,
        "Gating",
        "Publishing",
        "Succeeded",
    ]


def test_publish_pod_gets_the_digest_that_the_gate_judged():
    world = World()
    world.apply_all(make_job().with_publish().obj())
    world.run()
    jobs = {
        j["metadata"]["labels"]["tunegate.dev/role"]: j for j in world.cluster.as_user.list_objects("Job")
    }
    args = {role: job["spec"]["template"]["spec"]["containers"][0]["args"] for role, job in jobs.items()}
    assert args["gate"] == ["gate", "--attempt", "1", "--stage", "sft", "--step", "40"]
    assert args["publish"] == ["publish", "--attempt", "1", "--digest", DIGEST]


@pytest.mark.parametrize(
    ("what", "script", "reason", "message"),
    [
        (
            "a final model below its minimum",
            Script(final=79),
            Reason.GATE_FAILED,
            "golden: golden 79/100 = 0.79, required 0.80",
        ),
        (
            "a final model worse than the base",
            Script(base=94, checkpoints={10: 93, 50: 93}, final=88),
            Reason.GATE_FAILED,
            "golden: golden 88/100, BaseModel 94/100: -6.0 points, limit -5.0",
        ),
        (
            "a final model with an unmeasured case",
            Script(final="p" * 99 + "e"),
            Reason.GATE_ERROR,
            "golden: 1 of 100 golden cases could not be measured",
        ),
        (
            "a final model with missing outcomes",
            Script(final="p" * 50),
            Reason.GATE_ERROR,
            "golden: 50 of 100 golden cases could not be measured",
        ),
        (
            "a task metric below its minimum",
            Script(test="p" * 4 + "f" * 6),
            Reason.GATE_FAILED,
            "exact_match 4/10 = 0.40, required 0.50",
        ),
        (
            "a task metric without rows",
            Script(test=""),
            Reason.GATE_INCONCLUSIVE,
            "exact_match: no held-out rows to measure on",
        ),
    ],
)
def test_model_that_does_not_pass_is_not_published(what, script, reason, message):
    world = World(script)
    world.apply_all(make_job().with_publish().obj())
    status = world.run()
    assert status.phase is Phase.FAILED, what
    assert status.failure is not None
    assert status.failure.reason == reason
    assert status.failure.message.startswith(message)
    assert not status.published
    assert not any("publish" in name for name in world.jobs())


def test_failure_message_omits_dry_run_gates():
    world = World(Script(checkpoints={10: 20, 50: 30}))
    world.apply(make_gate("rehearsed").with_spec(enforcement="DryRun").obj())
    world.apply_all(make_job().with_gates("golden", "rehearsed").obj())
    failure = world.run().failure
    assert failure is not None
    assert failure.message == (
        "no checkpoint of stage sft passed its gates; "
        "the nearest is step 50: golden 30/100 = 0.30, required 0.80"
    )


def test_job_without_a_passing_checkpoint_fails_before_the_gate():
    world = World(Script(checkpoints={10: 20, 30: 45, 50: 60}))
    world.apply_all()
    status = world.run()
    assert status.failure is not None
    assert status.failure.reason == Reason.NO_PASSING_CHECKPOINT
    assert status.display.gate == "Failed"
    assert "the nearest is step 50: golden 60/100 = 0.60, required 0.80" in status.failure.message
    assert not any("gate" in name for name in world.jobs())


def test_outcomes_of_another_golden_set_never_pass():
    world = World(Script(golden_sha256="another"))
    world.apply_all()
    status = world.run()
    assert status.failure is not None
    assert status.failure.reason == Reason.GATE_ERROR
    assert status.display.gate == "Error"
    assert "100 outcomes were reported for the 0 cases of the golden set" in status.failure.message


def test_later_gate_edit_does_not_change_a_running_job():
    world = World()
    world.apply_all()
    world.settle()
    gate = world.gate()
    gate["spec"]["sets"][0]["rules"][0]["minPassRate"] = "99%"
    world.cluster.as_user.replace(gate)
    assert world.run().phase is Phase.SUCCEEDED


def test_child_jobs_are_hardened_and_owned():
    world = World()
    world.apply_all()
    world.settle()
    job = world.cluster.as_user.list_objects("Job")[0]
    pod, container = job["spec"]["template"]["spec"], job["spec"]["template"]["spec"]["containers"][0]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert job["metadata"]["ownerReferences"][0]["uid"] == world.job()["metadata"]["uid"]
    assert job["spec"]["podReplacementPolicy"] == "Failed"
    assert job["spec"]["podFailurePolicy"]["rules"] == [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {
            "action": "FailJob",
            "onExitCodes": {
                "containerName": "trainer",
                "operator": "In",
                "values": [10, 11, 12, 13, 14, 15],
            },
        },
    ]


def test_only_training_and_gate_request_gpus():
    world = World()
    world.apply_all(make_job().with_spec(resources={"gpu": {"count": 1}, "memory": "8Gi"}).obj())
    status = world.run()
    jobs = {
        j["metadata"]["labels"]["tunegate.dev/role"]: j for j in world.cluster.as_user.list_objects("Job")
    }
    asked = {
        role: job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
        for role, job in jobs.items()
    }
    assert asked == {
        "data": {"memory": "8Gi"},
        "train": {"memory": "8Gi", "nvidia.com/gpu": "1"},
        "gate": {"memory": "8Gi", "nvidia.com/gpu": "1"},
    }
    # train ran 7 s and the gate 1 s, on one GPU
    assert (status.running_seconds, status.gpu_seconds) == (9, 8)


def test_child_of_a_long_job_name_has_valid_label():
    world = World()
    world.apply_all(make_job("n" * 63).obj())
    world.settle()
    (name,) = world.jobs()
    assert len(name) <= 63
    assert name.endswith("-1")


def test_invalid_spec_fails_at_once_and_names_every_problem():
    world = World()
    world.apply_all(make_job().with_spec(model={}, evaluation={"every": 0}).obj())
    status = world.run()
    assert status.phase is Phase.FAILED
    assert status.failure is not None
    assert status.failure.reason == Reason.INVALID_SPEC
    assert "spec.model" in status.failure.message
    assert "spec.evaluation.every" in status.failure.message
    assert world.condition("Stalled").status == "True"
    assert world.jobs() == []


def test_finished_job_is_not_written_again():
    world = World()
    world.apply_all()
    world.run()
    before = len(world.cluster.writes)
    world.reconciler.resync()
    world.advance(3600)
    assert len(world.cluster.writes) == before


def test_version_published_to_the_same_uri_is_a_baseline():
    world = World()
    world.apply_all(make_job("first").with_publish().obj())
    world.run("first")
    world.outbox.clear()
    world.script.final = 89
    world.apply(make_job("second").with_publish().obj())
    status = world.run("second")
    assert status.failure is not None
    assert "golden 89/100, LastPublished 94/100: -5.0 points, limit -5.0" in status.failure.message


def test_last_published_is_skipped_while_nothing_is_published():
    world = World()
    world.apply_all(make_job().with_publish().obj())
    status = world.run()
    assert status.final is not None
    assert status.final.gates[0].skipped == ["LastPublished"]


def test_plan_has_the_digest_of_the_image_that_ran():
    world = World()
    world.apply_all()
    plan = world.run().plan
    assert plan is not None
    recorded = world.cluster.as_user.get(Key("ConfigMap", "default", plan.config_map))
    assert recorded is not None
    (image,) = {pod["spec"]["containers"][0]["image"] for pod in world.cluster.list_objects("Pod")}
    assert plan.image == json.loads(recorded["data"]["plan.json"])["image"] == image_id(image)


def test_results_are_recorded_before_status_shows_them():
    world = World()
    world.apply_all()
    world.run()
    writes = [(w.verb, w.kind) for w in world.cluster.writes]
    first_results = writes.index(("replace", "ConfigMap"))
    assert writes[first_results + 1] == ("status", "FineTuneJob")


@pytest.mark.parametrize(
    ("final", "reason", "phase"),
    [("f" * 100, Reason.GATE_FAILED, Phase.FAILED), (94, Reason.PROGRESSING, Phase.SUCCEEDED)],
)
def test_job_waits_for_results_configmap_before_it_ends(final, reason, phase):
    world = World(Script(final=final))
    world.apply_all()
    world.until_job("gate")
    world.cluster.fail("ConfigMap", "failed calling webhook")
    world.run()
    world.advance(3600)
    assert world.status().phase is Phase.GATING
    assert world.status().message.endswith("; not recorded yet: failed calling webhook")
    assert (world.status().completion_time, world.condition("Ready").reason) == (None, reason)
    writes = len(world.status_writes())
    world.advance(3600)
    assert len(world.status_writes()) == writes
    world.cluster.fail("ConfigMap", None)
    world.advance(3600)
    world.advance(10)
    assert world.status().phase is phase
    results = world.cluster.as_user.get(
        Key("ConfigMap", "default", results_name("orders", uid_of(world.job())))
    )
    assert results is not None
    assert Results.model_validate_json(results["data"]["results.json"]).find(Subject.FINAL)


def test_wait_for_acknowledgement_ends_if_the_namespace_terminates():
    world = World(posts=True)
    world.apply_all()
    world.until_job("train")
    world.cluster.terminate()
    for _ in range(3):
        world.tick()
        world.settle()
    assert world._delivered["train-sft.json"].cancelled()


def test_deadline_deletes_pods_even_if_results_cannot_be_recorded():
    world = World()
    world.apply_all(make_job().with_spec(activeDeadlineSeconds=100).obj())
    world.until_checkpoint()
    world.cluster.fail("ConfigMap", "failed calling webhook")
    world.tick()
    world.advance(100)
    world.advance(60)
    assert world.active_jobs() == []
    status = world.status()
    assert status.failure is not None
    assert status.failure.reason == Reason.DEADLINE_EXCEEDED


@pytest.mark.parametrize(("role", "may_be_published"), [("gate", False), ("publish", True)])
def test_deadline_while_publishing_warns_that_the_version_may_be_published(role, may_be_published):
    world = World()
    world.apply_all(make_job().with_publish().with_spec(activeDeadlineSeconds=300).obj())
    world.until_job(role)
    world.cluster.start_pod(world.active_jobs()[0]["metadata"]["name"])
    world.settle()
    world.advance(300)
    failure = world.status().failure
    assert failure is not None
    assert failure.reason == Reason.DEADLINE_EXCEEDED
    assert ("may be at a publish target" in failure.hint) is may_be_published


def test_permanent_exit_code_fails_job_with_pod_message_and_hint():
    world = World(Script(exits={"data": [failed(ExitCode.BAD_DATA, "BadData", "line 17: not JSON")]}))
    world.apply_all()
    status = world.run()
    assert status.failure is not None
    assert (status.failure.reason, status.failure.message, status.failure.hint) == (
        "BadData",
        "line 17: not JSON",
        "mend it",
    )
    assert world.condition("DataReady").status == "False"


def test_request_configmap_is_immutable_and_complete():
    world = World()
    world.apply_all()
    world.settle()
    name = world.status().request
    assert name is not None
    config_map = world.cluster.as_user.get(Key("ConfigMap", "default", name))
    assert config_map is not None
    assert config_map["immutable"] is True
    request = Request.model_validate(json.loads(config_map["data"]["request.json"]))
    assert request.final_gates[0].golden_sha256 == make_gate().spec["sets"][0]["sha256"]


@pytest.mark.parametrize(
    ("kind", "name", "field"), [("FineTuneJob", "orders", "phase"), ("EvalGate", "golden", "lastVerdict")]
)
@pytest.mark.parametrize("is_wrong_here", [False, True])
def test_unreadable_status_of_a_newer_version_is_not_changed(kind, name, field, is_wrong_here, caplog):
    world = World()
    world.apply_all(make_job().with_spec(ttlSecondsAfterFinished=600).obj())
    assert world.run().phase is Phase.SUCCEEDED
    key = Key(kind, "default", name)
    user = world.cluster.as_user
    if is_wrong_here:
        found = user.get(key)
        found["spec"]["inventedLater"] = True
        user.replace(found)
    found = user.get(key)
    status = found["status"] | {field: "InventedLater"}
    user.patch_status(key, status, found["metadata"]["resourceVersion"])
    world.advance(1000)
    assert user.get(key)["status"] == status
    assert f"another version of the operator may have written it: {field}" in caplog.text
