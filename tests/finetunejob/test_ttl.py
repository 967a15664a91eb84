"""After ttlSecondsAfterFinished, a cleanup Job runs, then Jobs and pods are deleted. The ConfigMaps with the
request, plan and results are kept."""

import pytest

from support.builders import make_job
from support.world import DIGEST, REGRESSING, Script, World
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.children.job import GRACE_SECONDS
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.objects import uid_of
from tunegate_operator.names import CONTINUE_ANNOTATION, DISCARD_ANNOTATION

TTL = 3600


def finished(script: Script | None = None, **spec: object) -> World:
    """Return a world whose job has just ended."""
    world = World(script)
    world.apply_all(make_job().with_spec(**{"ttlSecondsAfterFinished": TTL, **spec}).obj())
    world.run()
    return world


def owned(world: World) -> list[str]:
    """Return the kind and the name, without its last part, of every object that the job owns."""
    return sorted(
        f"{obj['kind']} {obj['metadata']['name'].rsplit('-', 1)[0]}"
        for kind in ("Job", "Pod", "ConfigMap")
        for obj in world.cluster.as_user.list_objects(kind)
        if any(owner["kind"] != "EvalGate" for owner in obj["metadata"].get("ownerReferences", ()))
    )


def cleanup_job(world: World) -> Object:
    (job,) = world.active_jobs()
    assert job["metadata"]["labels"]["tunegate.dev/role"] == "cleanup"
    return job


EVIDENCE = ["ConfigMap orders-plan", "ConfigMap orders-request", "ConfigMap orders-results"]


def test_expired_ttl_removes_files_then_child_jobs_and_pods():
    world = finished()
    ended, everything = world.status(), owned(world)
    world.advance(TTL - 1 - (world.clock.now() - ended.completion_time).total_seconds())
    assert owned(world) == everything, "a second too early"
    world.advance(1)
    cleanup_job(world)
    assert world.status() == ended, "status does not change before the cleanup ends"
    world.run()
    assert owned(world) == EVIDENCE
    status = world.status()
    assert status.cleanup is not None
    assert status.cleanup.result == "Succeeded"
    assert status.cleanup.message == (
        "kept report.html, evals/, gate/, tracking/, data/*.json, model/; "
        "removed all other files, the Jobs and their pods"
    )
    assert status.model_copy(update={"cleanup": None}) == ended
    assert world.events()[-1] == "CleanedUp"


def test_cleanup_without_the_jobs_request_reports_that_files_remain():
    world = finished()
    (request,) = (c for c in world.cluster.as_user.list_objects("ConfigMap") if "-request" in Key.of(c).name)
    world.cluster.as_user.delete(Key.of(request), uid_of(request))
    world.advance(TTL)
    world.run()
    cleanup = world.status().cleanup
    assert cleanup is not None
    assert cleanup.result == "NotFound"
    assert cleanup.message == (
        f"files remain in the folder tunegate/jobs/{world.job()['metadata']['uid']} on the claim tuning: the "
        "job's request was removed, so no cleanup Job can be created"
    )


def test_cleaned_up_job_is_not_written_again():
    world = finished()
    world.advance(TTL)
    world.run()
    writes = len(world.cluster.writes)
    world.boot()
    world.advance(10 * TTL)
    world.reconciler.resync()
    world.settle()
    assert len(world.cluster.writes) == writes
    assert world.status().phase is Phase.SUCCEEDED


def test_cleanup_removes_the_jobs_reports_from_memory():
    world = finished()
    assert world.cache.reports(world.job()["metadata"]["uid"])
    world.advance(TTL)
    world.run()
    world.settle()
    assert world.cache.reports(world.job()["metadata"]["uid"]) == []


def test_cleanup_keeps_only_a_model_that_passed():
    world = finished()
    world.advance(TTL)
    args = cleanup_job(world)["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args == ["cleanup", "--attempt", "1", "--digest", DIGEST]
    failed = finished(Script(final=79))
    failed.advance(TTL)
    args = cleanup_job(failed)["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args == ["cleanup", "--attempt", "1"]
    failed.run()
    cleanup = failed.status().cleanup
    assert cleanup is not None
    assert cleanup.message.startswith("kept report.html, evals/, gate/, tracking/, data/*.json; removed")


def test_cleanup_pod_is_small_and_has_no_user_volumes():
    world = finished(resources={"accelerator": "GPU", "cpu": "8", "memory": "64Gi"})
    world.advance(TTL)
    job = cleanup_job(world)["spec"]
    assert job["activeDeadlineSeconds"] == 3600
    pod = job["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"] == {"memory": "512Mi"}
    assert {volume["name"] for volume in pod["volumes"]} == {"request", "workspace", "tmp"}


def test_job_without_a_ttl_is_not_cleaned_up():
    world = finished(ttlSecondsAfterFinished=None)
    everything = owned(world)
    world.advance(100 * TTL)
    assert owned(world) == everything


def test_ttl_can_be_set_after_the_end():
    world = finished(ttlSecondsAfterFinished=None)
    world.advance(100 * TTL)
    world.edit(ttlSecondsAfterFinished=0)
    world.run()
    assert owned(world) == EVIDENCE


def test_stopped_job_is_cleaned_up_only_after_discard():
    world = finished(Script(checkpoints=REGRESSING))
    everything = owned(world)
    world.advance(100 * TTL)
    stop = world.status().stop
    assert stop is not None
    assert owned(world) == everything
    world.edit(annotations={DISCARD_ANNOTATION: f'{{"stop": "{stop.id}", "reason": "no"}}'})
    world.settle()
    assert owned(world) == everything, "the TTL starts at the end of the job"
    world.advance(TTL)
    world.run()
    assert world.status().phase is Phase.FAILED
    assert owned(world) == EVIDENCE


def test_ttl_of_a_continued_job_starts_at_its_end():
    world = finished(Script(checkpoints=REGRESSING))
    world.advance(100 * TTL)
    stop = world.status().stop
    assert stop is not None
    world.edit(annotations={CONTINUE_ANNOTATION: f'{{"stop": "{stop.id}", "reason": "go"}}'})
    assert world.run().phase is Phase.SUCCEEDED
    assert world.status().cleanup is None
    world.advance(TTL)
    world.run()
    assert owned(world) == EVIDENCE


def test_failed_file_removal_is_shown_and_child_jobs_deleted():
    world = finished(Script(exits={"cleanup": [(16, "the volume cannot be written")] * 4}))
    world.advance(TTL)
    world.run()
    cleanup = world.status().cleanup
    assert cleanup is not None
    assert cleanup.result == Reason.STORAGE
    uid = world.job()["metadata"]["uid"]
    assert cleanup.message == (
        f"files remain in the folder tunegate/jobs/{uid} on the claim tuning: the volume cannot be written"
    )
    assert owned(world) == EVIDENCE
    assert world.events()[-1] == "CleanupFailed"
    assert world.status().phase is Phase.SUCCEEDED


def test_cleanup_message_has_the_reason_why_the_cleanup_job_failed():
    world = finished()
    world.advance(TTL)
    world.cluster.fail_job(cleanup_job(world)["metadata"]["name"], "DeadlineExceeded")
    world.settle()
    cleanup = world.status().cleanup
    assert cleanup is not None
    assert cleanup.result == "InternalError"
    assert cleanup.message.endswith(
        "tuning: cleanup: the Job failed (DeadlineExceeded), and none of its pods reported why"
    )
    assert owned(world) == EVIDENCE


@pytest.mark.parametrize("fault", ["refuse", "forbid"])
def test_refused_cleanup_job_is_recorded_as_refused(fault):
    world = finished()
    getattr(world.cluster, fault)("Job", "exceeded quota: team")
    world.advance(TTL)
    for _ in range(10):
        world.advance(1000)
    cleanup = world.status().cleanup
    assert cleanup is not None
    assert cleanup.result == "Refused"
    assert cleanup.message.endswith("on the claim tuning: exceeded quota: team")
    assert owned(world) == EVIDENCE


def test_cleanup_job_is_retried_while_the_api_server_is_unavailable():
    world = finished()
    world.cluster.fail("Job", "failed calling webhook")
    world.advance(TTL)
    for _ in range(10):
        world.advance(1000)
    assert world.status().cleanup is None
    world.cluster.fail("Job", None)
    world.advance(1000)
    assert cleanup_job(world)


def test_forbidden_cleanup_job_is_retried_even_long_after_the_ttl():
    world = finished()
    world.clock.advance(TTL + 100_000)
    world.cluster.forbid("Job", "exceeded quota: team")
    world.settle()
    assert world.status().cleanup is None
    world.cluster.forbid("Job", None)
    world.advance(1000)
    assert cleanup_job(world)


def test_job_that_never_ran_a_pod_needs_no_cleanup_job():
    world = World()
    world.apply_all(make_job().with_spec(ttlSecondsAfterFinished=TTL, startTimeoutSeconds=60).obj())
    world.settle()
    world.advance(60)
    assert world.status().phase is Phase.FAILED
    world.advance(TTL)
    cleanup = world.status().cleanup
    assert cleanup is not None
    assert cleanup.message == "no pod of the job ran, so the job left no files"
    assert not any(name.startswith(("Job", "Pod")) for name in owned(world))


def test_ttl_of_zero_cleans_up_at_once():
    world = finished(ttlSecondsAfterFinished=0)
    assert world.status().phase is Phase.SUCCEEDED
    assert owned(world) == EVIDENCE


def test_job_with_an_invalid_spec_is_not_cleaned_up():
    world = World()
    world.apply(make_job().with_spec(ttlSecondsAfterFinished=0, stages=[]).obj())
    world.settle()
    assert world.status().phase is Phase.FAILED
    world.advance(TTL)
    assert world.status().cleanup is None
    assert world.jobs() == []


def test_cleanup_waits_for_the_grace_period_of_a_stopped_pod():
    world = World()
    world.apply_all(make_job().with_spec(ttlSecondsAfterFinished=0, activeDeadlineSeconds=100).obj())
    world.until_checkpoint()
    world.advance(100)
    assert world.status().phase is Phase.FAILED
    world.advance(GRACE_SECONDS - 1)
    assert world.active_jobs() == [], "a second too early"
    world.advance(1)
    cleanup_job(world)
