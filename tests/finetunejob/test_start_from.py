"""A job with ``model.startFrom`` waits for the other job, and records the model of that job."""

from typing import Any

import pytest

from support.builders import make_job
from support.world import DIGEST, World, failed, plan_for
from tunegate_api.contract.process import ExitCode
from tunegate_api.contract.request import Request
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.names import REQUEST_KEY

LATER = make_job("later").with_spec(
    model={"startFrom": "orders"}, storage={"persistentVolumeClaim": "other"}, startTimeoutSeconds=600
)


@pytest.fixture
def world() -> World:
    """Return a world with the inputs of jobs and the job ``orders``, which succeeds."""
    world = World()
    world.apply_all()
    return world


def ready(world: World) -> tuple[str, str]:
    condition = world.condition("Ready", "later")
    return condition.reason, world.status("later").message


def request(world: World) -> Request:
    name = world.status("later").request
    assert name is not None
    config_map = world.cluster.as_user.get(Key("ConfigMap", "default", name))
    assert config_map is not None
    return Request.model_validate_json(config_map["data"][REQUEST_KEY])


def data_pod(world: World) -> Object:
    (job,) = [j for j in world.active_jobs() if j["metadata"]["labels"]["tunegate.dev/job"] == "later"]
    pod: Object = job["spec"]["template"]["spec"]
    return pod


def mounted(pod: Object) -> dict[str, Any]:
    """Return the claim at each mount path, and whether the mount is read-only."""
    claims = {
        v["name"]: v["persistentVolumeClaim"]["claimName"]
        for v in pod["volumes"]
        if "persistentVolumeClaim" in v
    }
    assert len(set(claims.values())) == len(claims), "one volume for each claim"
    return {
        m["mountPath"]: (claims[m["name"]], m.get("readOnly", False))
        for m in pod["containers"][0]["volumeMounts"]
        if m["name"] in claims
    }


def test_job_waits_for_a_missing_start_from_job(world):
    world.run()
    world.apply(make_job("later").with_spec(model={"startFrom": "unknown"}).obj())
    world.settle()
    assert ready(world) == (
        Reason.START_FROM_NOT_FOUND,
        "FineTuneJob unknown does not exist in this namespace",
    )
    assert world.status("later").phase is Phase.PENDING


def test_job_notices_at_once_that_its_start_from_job_exists():
    world = World()
    world.apply_all(LATER.obj())
    world.settle()
    assert ready(world)[0] == Reason.START_FROM_NOT_FOUND
    world.apply(make_job().obj())
    world.settle()
    assert ready(world)[0] == Reason.START_FROM_NOT_READY


def test_job_waits_until_the_start_from_job_succeeds(world):
    world.apply(LATER.obj())
    world.settle()
    assert ready(world) == (
        Reason.START_FROM_NOT_READY,
        "FineTuneJob orders has not succeeded yet: it is Pending",
    )
    world.until_checkpoint()
    world.advance(60)
    assert ready(world)[1] == "FineTuneJob orders has not succeeded yet: it is Training"
    status = world.run("later")
    assert status.phase is Phase.SUCCEEDED
    uid = world.job("orders")["metadata"]["uid"]
    start = request(world).start_from
    assert start is not None
    assert (start.job, start.uid, start.claim) == ("orders", uid, "tuning")
    assert start.digest == world.status("orders").final.model_digest
    assert (start.base_digest, start.trained) == (DIGEST, plan_for(uid).stages[0].parameters)
    assert start.uri == f"pvc://tuning/tunegate/jobs/{uid}/model"


def test_job_starts_as_soon_as_the_start_from_job_succeeds(world):
    world.apply(LATER.obj())
    world.run("orders")
    assert world.status("later").phase is not Phase.PENDING, "no time has passed"


def test_wait_for_start_from_job_ends_at_start_timeout(world):
    world.script.exits["data"] = [(int(ExitCode.INTERNAL_ERROR), "slow")]
    world.apply(LATER.obj())
    world.settle()
    world.advance(600)
    failure = world.status("later").failure
    assert failure is not None
    assert failure.reason == Reason.START_TIMEOUT
    assert failure.message.startswith(
        "waited 600 s: StartFromNotReady: FineTuneJob orders has not succeeded yet"
    )


def test_failed_start_from_job_fails_the_job_at_once(world):
    world.script.exits["data"] = [failed(ExitCode.BAD_DATA, "BadData", "line 3: prompt is missing")]
    world.apply(LATER.obj())
    world.run()
    status = world.status("later")
    assert (status.phase, status.failure.reason) == (Phase.FAILED, Reason.START_FROM_FAILED)
    assert status.failure.message == (
        "FineTuneJob orders, which model.startFrom names, failed: BadData: line 3: prompt is missing"
    )
    assert status.failure.hint


def test_data_pod_mounts_the_claim_of_the_start_model(world):
    world.run()
    world.apply(LATER.obj())
    world.settle()
    assert mounted(data_pod(world)) == {
        "/tunegate/volumes/tuning": ("tuning", True),
        "/tunegate/workspace": ("other", False),
    }


def test_claim_with_both_workspace_and_start_model_is_mounted_twice(world):
    world.run()
    world.apply(make_job("later").with_spec(model={"startFrom": "orders"}).obj())
    world.settle()
    assert mounted(data_pod(world)) == {
        "/tunegate/volumes/tuning": ("tuning", True),
        "/tunegate/workspace": ("tuning", False),
    }
    (job,) = world.active_jobs()
    world.play(job)
    world.play(job)
    world.settle()
    assert "/tunegate/volumes/tuning" not in mounted(data_pod(world)), "the training pod does not need it"


def test_deleted_start_from_job_does_not_change_a_started_job(world):
    world.run()
    world.apply(LATER.obj())
    world.settle()
    began = request(world)
    world.cluster.as_user.delete(Key("FineTuneJob", "default", "orders"), world.job()["metadata"]["uid"])
    assert world.run("later").phase is Phase.SUCCEEDED
    assert request(world) == began
