"""With ``storage.onDelete: Delete``, the files of a job are removed before the deleted job disappears."""

from datetime import timedelta

import pytest

from support.builders import make_job, make_namespace
from support.world import Script, World
from tunegate_api.contract.process import Outcome
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.children.pod_status import unschedulable
from tunegate_operator.engine.cluster import ClusterError, Key, Object
from tunegate_operator.engine.objects import is_being_deleted, uid_of
from tunegate_operator.finetunejob.deletion import DEADLINE, START_TIMEOUT
from tunegate_operator.names import FILES_FINALIZER

JOB = Key("FineTuneJob", "default", "orders")


def new_world(script: Script | None = None, *, on_delete: str = "Delete", **spec: object) -> World:
    world = World(script)
    storage = {"persistentVolumeClaim": "tuning", "onDelete": on_delete}
    world.apply_all(make_job().with_spec(storage=storage, **spec).obj())
    return world


def ended(script: Script | None = None, **spec: object) -> World:
    """Return a world whose job has ended."""
    world = new_world(script, **spec)
    assert world.run().phase is Phase.SUCCEEDED
    return world


def delete(world: World) -> str:
    """Delete the job as a user. Return its uid."""
    uid = uid_of(world.job())
    world.cluster.as_user.delete(JOB, uid)
    world.settle()
    return uid


def is_gone(world: World) -> bool:
    return world.cluster.as_user.get(JOB) is None


def until_gone(world: World) -> None:
    """Let the operator and the pods act in turns until the job has disappeared."""
    for _ in range(60):
        world.settle()
        if is_gone(world):
            return
        world.tick()
    raise AssertionError("the job is still there")


def finalizers(world: World) -> list[str]:
    found: list[str] = world.job()["metadata"].get("finalizers", [])
    return found


def cleanup_job(world: World) -> Object:
    (job,) = world.active_jobs()
    assert job["metadata"]["labels"]["tunegate.dev/role"] == "cleanup"
    return job


def warnings(world: World) -> list[str]:
    """Return the messages of the events that the operator recorded about files that remain."""
    return [message for _, _, reason, message in world.cluster.events if reason == "CleanupFailed"]


def remain(uid: str, why: str) -> list[str]:
    """Return the messages that must be recorded if files of the job remain."""
    return [f"files remain in the folder tunegate/jobs/{uid} on the claim tuning: {why}"]


def written(world: World, since: int = 0) -> list[str]:
    return [f"{write.verb} {write.kind}" for write in world.cluster.writes[since:] if write.verb != "event"]


# Which jobs have the finalizer


def test_finalizer_precedes_the_first_job_and_costs_one_write():
    world, without = new_world(), new_world(on_delete="Keep")
    world.settle()
    without.settle()
    assert written(world)[-4:] == [
        "create ConfigMap",
        "finalizers FineTuneJob",
        "create Job",
        "status FineTuneJob",
    ]
    world.run()
    without.run()
    assert finalizers(world) == [FILES_FINALIZER]
    assert len(world.cluster.writes) == len(without.cluster.writes) + 1


@pytest.mark.parametrize("on_delete", ["Keep", None])
def test_job_that_keeps_its_files_is_deleted_without_finalizer(on_delete):
    world = World()
    storage = {"persistentVolumeClaim": "tuning"} | ({"onDelete": on_delete} if on_delete else {})
    world.apply_all(make_job().with_spec(storage=storage).obj())
    world.run()
    assert finalizers(world) == []
    delete(world)
    assert is_gone(world)
    assert world.jobs() == []


def test_job_that_waits_for_its_gate_is_deleted_at_once():
    world = World()
    storage = {"persistentVolumeClaim": "tuning", "onDelete": "Delete"}
    world.apply(make_job().with_spec(storage=storage).obj())
    world.settle()
    assert finalizers(world) == []
    delete(world)
    assert is_gone(world)


def test_finalizers_of_others_are_kept():
    world = World()
    job = make_job().with_spec(storage={"persistentVolumeClaim": "tuning", "onDelete": "Delete"}).obj()
    job["metadata"]["finalizers"] = ["example.com/archive"]
    world.apply_all(job)
    world.run()
    assert finalizers(world) == ["example.com/archive", FILES_FINALIZER]
    delete(world)
    world.tick()
    world.tick()
    world.settle()
    assert finalizers(world) == ["example.com/archive"]


def test_finalizer_removed_by_a_user_is_not_added_again():
    world = ended()
    job = world.job()
    world.cluster.as_user.patch_finalizers(JOB, [], job["metadata"]["resourceVersion"])
    world.settle()
    world.boot()
    world.settle()
    assert finalizers(world) == []
    delete(world)
    assert is_gone(world)


def test_job_does_not_start_while_the_finalizer_is_forbidden():
    world = World()
    world.cluster.forbid("finalizers", 'User "tunegate" cannot patch resource "finetunejobs": is forbidden')
    storage = {"persistentVolumeClaim": "tuning", "onDelete": "Delete"}
    world.apply_all(make_job().with_spec(storage=storage).obj())
    world.settle()
    world.advance(10)
    assert world.jobs() == []
    assert world.condition("Ready").reason == Reason.FORBIDDEN
    assert "cannot patch resource" in world.status().message
    world.cluster.forbid("finalizers", None)
    world.advance(60)
    assert world.run().phase is Phase.SUCCEEDED
    assert finalizers(world) == [FILES_FINALIZER]


def test_finalizer_that_a_user_added_removes_no_files():
    world = new_world(on_delete="Keep")
    world.run()
    held = world.job()["metadata"]["resourceVersion"]
    world.cluster.as_user.patch_finalizers(JOB, [FILES_FINALIZER], held)
    world.settle()
    delete(world)
    assert is_gone(world)
    assert not cleaned(world)


# Removing the files


def test_deleted_job_disappears_after_its_files_are_removed():
    world = ended()
    uid, before = uid_of(world.job()), len(world.cluster.writes)
    delete(world)
    assert is_being_deleted(world.job())
    pod = cleanup_job(world)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"] == ["cleanup", "--attempt", "2", "--deleted-job", uid]
    folder = f"tunegate/jobs/{uid}"
    mounts = [m for m in container["volumeMounts"] if m["name"] == "workspace"]
    assert mounts == [{"name": "workspace", "mountPath": f"/tunegate/workspace/{folder}", "subPath": folder}]
    assert {volume["name"] for volume in pod["volumes"]} == {"workspace", "tmp"}
    until_gone(world)
    assert written(world, before) == ["create Job", "finalizers FineTuneJob"]
    assert warnings(world) == []
    assert world.jobs() == []


def test_job_does_not_start_from_a_job_under_deletion():
    world = ended()
    delete(world)
    later = make_job("later").with_spec(model={"startFrom": "orders"})
    world.apply(later.obj())
    world.settle()
    assert not [name for name in world.jobs() if name.startswith("later-")]
    assert world.status("later").phase is Phase.PENDING
    assert "orders" in world.status("later").message
    assert world.status("later").request is None


def test_training_ends_before_files_are_removed():
    world = new_world()
    world.until_checkpoint()
    world.cluster.stop_pods_slowly()
    (training,) = world.active_jobs()
    (pod,) = world.cluster.pods_of(training["metadata"]["name"])
    delete(world)
    assert world.active_jobs() == []
    world.advance(100)
    assert world.active_jobs() == [], "the pod still writes"
    world.cluster.finalize(Key.of(pod), uid_of(pod))
    world.settle()
    until_gone(world)
    assert warnings(world) == []


def test_pod_reported_after_its_job_was_deleted_is_awaited():
    world = new_world()
    world.until_job("train")
    world.cluster.stop_pods_slowly()
    with world.late_children("Pod"):
        world.tick()
        delete(world)
        assert world.jobs() == ["orders-data-" + uid_of(world.job())[:5] + "-1"], (
            "the training Job is deleted"
        )
    for _ in range(3):
        world.advance(10)
        assert world.active_jobs() == [], "the pod still writes"
    (pod,) = (p for p in world.cluster.as_user.list_objects("Pod") if "-train-" in p["metadata"]["name"])
    world.cluster.finalize(Key.of(pod), uid_of(pod))
    world.advance(10)
    cleanup_job(world)


def test_restarted_operator_finds_that_a_deleted_jobs_pod_ended():
    world = new_world()
    world.until_checkpoint()
    world.cluster.stop_pods_slowly()
    (training,) = world.active_jobs()
    (pod,) = world.cluster.pods_of(training["metadata"]["name"])
    delete(world)
    world.boot()
    world.settle()
    world.cluster.finalize(Key.of(pod), uid_of(pod))
    world.advance(10)
    cleanup_job(world)


def test_deleted_jobs_pod_does_not_wait_for_its_report():
    world = World(posts=True)
    storage = {"persistentVolumeClaim": "tuning", "onDelete": "Delete"}
    world.apply_all(make_job().with_spec(storage=storage).obj())
    world.until_checkpoint()
    (training,) = world.active_jobs()
    world.cluster.stop_pods_slowly()
    delete(world)
    world.report_outcome(training, Outcome.INTERRUPTED)
    assert "train-sft.json" not in world.acknowledged()
    world.settle()
    assert "train-sft.json" in world.acknowledged()


def test_files_are_removed_after_a_cleanup_by_ttl():
    world = ended(ttlSecondsAfterFinished=0)
    assert world.status().cleanup is not None
    delete(world)
    args = cleanup_job(world)["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--deleted-job" in args
    until_gone(world)


def test_cleanup_by_ttl_that_still_runs_is_ended_first():
    world = ended(ttlSecondsAfterFinished=100)
    world.advance(100)
    by_ttl = cleanup_job(world)["metadata"]["name"]
    delete(world)
    world.settle()
    assert cleanup_job(world)["metadata"]["name"] != by_ttl
    until_gone(world)


def test_foreground_deletion_ends_children_before_files_are_removed():
    """The garbage collector deletes all children first, also the request, and would delete the cleanup
    Job."""
    world = new_world()
    world.until_checkpoint()
    (training,) = world.active_jobs()
    ours, both = [FILES_FINALIZER], [FILES_FINALIZER, "foregroundDeletion"]
    world.cluster.as_user.patch_finalizers(JOB, both, world.job()["metadata"]["resourceVersion"])
    uid = delete(world)
    assert world.active_jobs() == [training], "only the garbage collector deletes it"
    for kind in ("Job", "ConfigMap"):
        for child in world.cluster.as_user.list_objects(kind):
            if uid in [owner["uid"] for owner in child["metadata"].get("ownerReferences", ())]:
                world.cluster.as_user.delete(Key.of(child), uid_of(child))
    world.settle()
    assert world.jobs() == []
    world.cluster.as_user.patch_finalizers(JOB, ours, world.job()["metadata"]["resourceVersion"])
    world.advance(11)
    cleanup_job(world)
    until_gone(world)


def test_job_whose_records_are_damaged_is_deleted_with_its_files():
    world = new_world()
    world.until_checkpoint()
    for config_map in world.cluster.as_user.list_objects("ConfigMap"):
        if config_map["metadata"]["name"].startswith("orders-"):
            world.cluster.as_user.delete(Key.of(config_map), uid_of(config_map))
    delete(world)
    until_gone(world)
    assert warnings(world) == []


# Files that cannot be removed


def test_failed_removal_is_reported_and_the_job_disappears():
    world = ended(Script(exits={"cleanup": [(16, "the volume cannot be written")] * 4}))
    uid = delete(world)
    until_gone(world)
    assert warnings(world) == remain(uid, "the volume cannot be written")
    last = [write.verb for write in world.cluster.writes[-2:]]
    assert last == ["event", "finalizers"], "a crash must not lose the event"


@pytest.mark.parametrize(
    "message",
    [
        'persistentvolumeclaim "tuning" not found',
        '0/1 nodes are available: persistentvolumeclaim "tuning" is being deleted. not found',
    ],
)
def test_missing_claim_holds_no_deletion(message):
    world = ended()
    uid = delete(world)
    job = cleanup_job(world)
    pod = world.cluster.pending_pod(job["metadata"]["name"])
    world.cluster.set_pod_status(job["metadata"]["name"], unschedulable(pod, message, world.clock.now()))
    world.settle()
    assert is_gone(world)
    assert warnings(world) == remain(uid, f"cleanup: {message}")


def test_forged_event_about_a_missing_claim_releases_no_deletion():
    world = ended()
    delete(world)
    job = cleanup_job(world)
    message = 'persistentvolumeclaim "tuning" not found'
    world.cluster.as_user.record_event(job, "Warning", "FailedCreate", message)
    world.advance(60)
    assert not is_gone(world)
    world.cluster.complete_job(job["metadata"]["name"])
    world.settle()
    assert is_gone(world)
    assert warnings(world) == []


def test_unschedulable_pod_holds_a_deletion_for_ten_minutes():
    world = ended()
    delete(world)
    job = cleanup_job(world)
    pod = world.cluster.pending_pod(job["metadata"]["name"])
    message = '0/1 nodes are available: 1 Insufficient memory, persistentvolumeclaim "other" not found'
    world.cluster.set_pod_status(job["metadata"]["name"], unschedulable(pod, message, world.clock.now()))
    world.advance(START_TIMEOUT.total_seconds() - 1)
    assert not is_gone(world)
    world.advance(1)
    assert is_gone(world)
    (warning,) = warnings(world)
    assert "did not start within ten minutes" in warning
    assert message in warning


def test_terminating_namespace_holds_no_deletion():
    world = ended()
    namespace = make_namespace()
    namespace["metadata"]["finalizers"] = ["kubernetes"]
    world.apply(namespace)
    found = world.cluster.as_user.get(Key("Namespace", "default", "default"))
    assert found is not None
    world.cluster.as_user.delete(Key.of(found), uid_of(found))
    world.cluster.terminate()
    uid = delete(world)
    assert is_gone(world)
    assert warnings(world) == remain(uid, "the namespace is being deleted, so no pod can remove them")


def test_forbidden_cleanup_job_holds_a_deletion_for_ten_minutes():
    world = ended()
    world.cluster.forbid("Job", "exceeded quota: team")
    delete(world)
    world.advance(START_TIMEOUT.total_seconds() - 1)
    assert not is_gone(world)
    world.advance(1)
    assert is_gone(world)
    (warning,) = warnings(world)
    assert warning.endswith("refused a Job that removes them for ten minutes: exceeded quota: team")


def test_cleanup_job_is_created_after_a_temporary_refusal():
    world = ended()
    world.cluster.forbid("Job", "exceeded quota: team")
    delete(world)
    world.cluster.forbid("Job", None)
    world.advance(60)
    cleanup_job(world)


def test_pod_that_never_ends_holds_a_deletion_for_an_hour():
    world = new_world()
    world.until_checkpoint()
    world.cluster.stop_pods_slowly()
    uid = delete(world)
    for _ in range(int(DEADLINE / timedelta(minutes=1)) - 1):
        world.advance(60)
    assert not is_gone(world)
    assert world.active_jobs() == []
    world.advance(61)
    assert is_gone(world)
    assert warnings(world) == remain(
        uid, "they were not removed within an hour of the deletion of the FineTuneJob"
    )


def test_deletion_with_unreadable_namespace_ends_after_an_hour():
    world = ended()
    world.cluster.fail_to_read("Namespace", ClusterError("no answer"))
    delete(world)
    assert not is_gone(world)
    world.advance(DEADLINE.total_seconds() + 1)
    assert is_gone(world)


def test_job_with_a_spec_that_is_not_understood_is_deleted():
    world = ended()
    world.edit(stages="of a newer version")
    uid = delete(world)
    assert is_gone(world)
    assert warnings(world) == remain(uid, "this version of the operator does not understand the spec")


# Faults


def test_operator_crash_around_any_deletion_write_leaves_no_files():
    world = new_world()
    deaths: list[World] = []
    world.cluster.write_listener = lambda: deaths.append(world.without_operator())
    world.until_checkpoint()
    delete(world)
    until_gone(world)
    assert len(deaths) > 10
    for dead in deaths:
        writes = len(dead.cluster.writes)
        dead.boot()
        if not is_gone(dead):
            had_jobs = dead.jobs() != []
            delete(dead)
            until_gone(dead)
            if had_jobs:
                assert cleaned(dead), f"died after {writes} writes"
        assert warnings(dead) == []
        assert dead.jobs() == []


def cleaned(world: World) -> bool:
    """Return whether a cleanup Job was created."""
    return any(
        (write.verb, write.kind) == ("create", "Job") and "-cleanup-" in write.name
        for write in world.cluster.writes
    )


def test_every_write_of_a_deletion_is_retried():
    undisturbed = ended()
    count = len(undisturbed.cluster.writes)
    delete(undisturbed)
    until_gone(undisturbed)
    for n in range(count + 1, len(undisturbed.cluster.writes) + 1):
        world = ended()
        world.cluster.error_on(n)
        delete(world)
        world.advance(1)
        until_gone(world)
        assert cleaned(world)


def test_job_stays_while_the_operator_may_not_remove_the_finalizer():
    world = ended(Script(exits={"cleanup": [(16, "the volume cannot be written")] * 4}))
    world.cluster.forbid("finalizers", 'User "tunegate" cannot patch resource "finetunejobs": is forbidden')
    uid = delete(world)
    for _ in range(20):
        world.settle()
        world.tick()
    assert finalizers(world) == [FILES_FINALIZER]
    assert warnings(world) == remain(uid, "the volume cannot be written"), "the event is not repeated"
    world.cluster.forbid("finalizers", None)
    world.advance(1000)
    assert is_gone(world)


def test_conflicting_change_of_finalizers_is_retried():
    world = World()
    world.apply_all(make_job("first").obj())
    world.settle()
    storage = {"persistentVolumeClaim": "tuning", "onDelete": "Delete"}
    world.cluster.conflict()
    world.apply(make_job().with_spec(storage=storage).obj())
    world.advance(1)
    assert written(world)[-2:] == ["finalizers FineTuneJob", "create Job"]
    world.run()
    delete(world)
    world.cluster.conflict()
    until_gone(world)
