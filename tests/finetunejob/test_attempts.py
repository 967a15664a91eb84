"""The effect of failed, killed, disrupted and suspended pods on a job."""

import pytest

from support.builders import make_job
from support.world import Script, World, failed
from tunegate_api.contract.process import ExitCode, Outcome, Termination
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.children import pod_status
from tunegate_operator.engine.cluster import Key, Object, WatchEvent
from tunegate_operator.engine.objects import uid_of
from tunegate_operator.names import MANAGED_LABELS

KILLED = (137, "")


def test_killed_pod_restarts_within_its_attempt():
    world = World(Script(exits={"train": [KILLED, KILLED]}))
    world.apply_all()
    assert world.run().phase is Phase.SUCCEEDED
    assert [name.rsplit("-", 1)[1] for name in world.jobs() if "train" in name] == ["1"]


def test_restarts_without_a_new_checkpoint_fail_the_job():
    world = World(Script(exits={"train": [KILLED] * 4}))
    world.apply_all()
    status = world.run()
    assert status.failure is not None
    assert status.failure.reason == Reason.KILLED
    assert "restarts made no progress" in status.failure.message


def test_failed_attempt_with_a_new_checkpoint_is_retried():
    world = World()
    world.apply_all()
    while not world.status().checkpoints:
        world.settle()
        world.tick()
    world.script.exits["train"] = [KILLED] * 4
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    trains = [a for a in status.attempts if a.role == "train"]
    assert [(a.number, a.result, a.last_step) for a in trains] == [(1, "Killed", 20), (2, "Succeeded", 50)]


def test_second_attempt_without_a_new_checkpoint_fails_the_job():
    world = World()
    world.apply_all()
    while not world.status().checkpoints:
        world.settle()
        world.tick()
    world.script.exits["train"] = [KILLED] * 8
    status = world.run()
    assert status.phase is Phase.FAILED
    assert [a.number for a in status.attempts if a.role == "train"] == [1, 2]


def test_job_fails_with_unknown_failure_reason_of_newer_trainer():
    ended = Termination(
        exit_code=ExitCode.USER_ERROR,
        outcome=Outcome.FAILED,
        failure=Failure(reason="SomethingNew", message="from the future"),
    )
    world = World(Script(exits={"data": [(ExitCode.USER_ERROR, ended.model_dump_json(by_alias=True))]}))
    world.apply_all()
    status = world.run()
    assert status.phase is Phase.FAILED
    assert status.failure is not None
    assert (status.failure.reason, status.failure.message) == ("SomethingNew", "from the future")
    assert "kubectl logs" in status.failure.hint


def test_out_of_memory_fails_the_job_at_once():
    world = World()
    world.apply_all()
    world.settle()
    (name,) = world.jobs()
    world.cluster.finish_pod(name, 137, reason="OOMKilled")
    world.settle()
    status = world.status()
    assert status.failure is not None
    assert (status.failure.reason, status.failure.hint) == (Reason.OUT_OF_MEMORY, "Raise resources.memory.")
    assert world.active_jobs() == []


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (ExitCode.NOT_FOUND, Reason.NOT_FOUND),
        (ExitCode.NO_ACCELERATOR, Reason.NO_ACCELERATOR),
        (ExitCode.CUDA_OUT_OF_MEMORY, Reason.CUDA_OUT_OF_MEMORY),
        (ExitCode.CREDENTIALS, Reason.CREDENTIALS),
    ],
)
def test_permanent_exit_code_alone_determines_the_failure_reason(code, reason):
    world = World(Script(exits={"data": [(int(code), "last line of the log")]}))
    world.apply_all()
    status = world.run()
    assert status.failure is not None
    assert (status.failure.reason, status.failure.message) == (reason, "last line of the log")
    assert status.failure.hint


@pytest.mark.parametrize(
    ("code", "reason"),
    [(ExitCode.STORAGE, Reason.STORAGE), (ExitCode.UNREACHABLE, Reason.UNREACHABLE)],
)
def test_repeated_temporary_failure_fails_the_job_with_its_reason(code, reason):
    world = World(Script(exits={"data": [(int(code), "last line of the log")] * 4}))
    world.apply_all()
    status = world.run()
    assert status.failure is not None
    assert status.failure.reason == reason
    assert "last line of the log" in status.failure.message
    assert status.failure.hint


def test_unknown_failure_has_the_end_of_the_log_as_message():
    world = World(Script(exits={"data": [(1, "Traceback\nValueError: odd")] * 4}))
    world.apply_all()
    status = world.run()
    assert status.failure is not None
    assert status.failure.reason == Reason.INTERNAL_ERROR
    assert "ValueError: odd" in status.failure.message


def test_failure_log_is_cut_but_the_restart_note_stays():
    world = World(Script(exits={"data": [(1, "first" + "x" * 3000 + "last")] * 4}))
    world.apply_all()
    failure = world.run().failure
    assert failure is not None
    assert len(failure.message) == 1024
    assert failure.message.endswith("xxlast (restarts made no progress)")


def test_failure_in_the_termination_message_is_shown():
    world = World(Script(exits={"gate": [failed(ExitCode.NOT_FOUND, "NotFound", "no such file")]}))
    world.apply_all()
    status = world.run()
    assert status.failure is not None
    assert status.failure.message == "no such file"


def start_pod_of(world: World, role: str = "data") -> str:
    """Start the pod of the next Job of this role. Return the name of the Job."""
    world.until_job(role)
    (job,) = world.active_jobs()
    name: str = job["metadata"]["name"]
    world.cluster.start_pod(name)
    world.settle()
    return name


BAD_ROWS = failed(ExitCode.BAD_DATA, "BadData", "line 3: no prompt")
OUT_OF_GPU_MEMORY = failed(ExitCode.CUDA_OUT_OF_MEMORY, "CudaOutOfMemory", "the GPU is full")


@pytest.mark.parametrize(
    ("role", "end", "reason"),
    [("data", BAD_ROWS, Reason.BAD_DATA), ("train", OUT_OF_GPU_MEMORY, Reason.CUDA_OUT_OF_MEMORY)],
)
def test_job_fails_only_after_its_pods_end_is_observed(role, end, reason):
    """The watch event of a Job's failure may arrive before the watch events of its pods."""
    world = World()
    world.apply_all()
    name = start_pod_of(world, role)
    before = world.status()
    with world.late_children("Pod"):
        world.cluster.finish_pod(name, *end)
        world.settle()
        world.advance(9)
        assert (world.status().phase, world.status().attempts) == (before.phase, before.attempts)
    world.settle()
    failure = world.status().failure
    assert failure is not None
    assert failure.reason == reason
    assert world.status().attempts[-1].result == reason


def test_job_failure_waits_for_pod_with_permanent_exit_code():
    """The newest pod in the cache was killed. A newer pod, not in the cache yet, had a permanent exit
    code."""
    world = World()
    world.apply_all()
    name = start_pod_of(world)
    world.cluster.finish_pod(name, *KILLED)
    world.advance(10)
    with world.late_children("Pod"):
        world.cluster.finish_pod(name, *BAD_ROWS)
        world.settle()
        assert world.status().failure is None
    world.settle()
    failure = world.status().failure
    assert failure is not None
    assert failure.reason == Reason.BAD_DATA


def test_step_without_ended_pod_fails_after_100_seconds():
    world = World()
    world.apply_all()
    name = start_pod_of(world)
    world.cluster.fail_job(name)
    world.settle()
    world.advance(99)
    assert world.status().failure is None
    world.advance(1)
    failure = world.status().failure
    assert failure is not None
    assert failure.reason == Reason.INTERNAL_ERROR
    assert failure.message == (
        "data: the Job failed (BackoffLimitExceeded), and none of its pods reported why "
        "(restarts made no progress)"
    )
    assert failure.hint == f"See the events of the Job: kubectl describe job {name}"


def test_multi_pod_failure_waits_for_the_end_of_all_pods():
    world = World()
    world.apply_all(make_job().with_spec(resources={"nodes": 2}).obj())
    name = start_pod_of(world, "train")
    world.cluster.start_pod(name)
    world.settle()
    world.cluster.finish_pod(
        name, *failed(ExitCode.INTERNAL_ERROR, Reason.PEER_LOST, "the other one ended"), index=0
    )
    with world.late_children("Pod"):
        world.cluster.finish_pod(name, *OUT_OF_GPU_MEMORY, index=1)
        world.settle()
        assert [a.role for a in world.status().attempts] == ["data"]
    world.settle()
    failure = world.status().failure
    assert failure is not None
    assert failure.reason == Reason.CUDA_OUT_OF_MEMORY


def disrupted(reason: str, message: str, condition: str = "TerminationByKubelet") -> Object:
    """Return the status, without a termination message, of a pod that the cluster ended."""
    disruption = {"type": "DisruptionTarget", "status": "True", "reason": condition, "message": message}
    return {"phase": "Failed", "reason": reason, "message": message, "conditions": [disruption]}


@pytest.mark.parametrize(
    ("pod_status", "reason", "message"),
    [
        (
            disrupted("Evicted", "The node was low on resource: memory."),
            Reason.EVICTED,
            "data: the cluster ended the pod: Evicted: The node was low on resource: memory.",
        ),
        (
            disrupted("", "preempted by a pod of higher priority", "PreemptionByScheduler"),
            Reason.EVICTED,
            "data: the cluster ended the pod: PreemptionByScheduler: preempted by a pod of higher priority",
        ),
        (
            disrupted("Terminated", "Pod was terminated in response to imminent node shutdown."),
            Reason.NODE_LOST,
            "data: the cluster ended the pod: Terminated: "
            "Pod was terminated in response to imminent node shutdown.",
        ),
        (
            disrupted("", "", "DeletionByTaintManager"),
            Reason.NODE_LOST,
            "data: the cluster ended the pod: DeletionByTaintManager",
        ),
    ],
)
def test_failure_shows_why_the_cluster_ended_the_pod(pod_status, reason, message):
    world = World()
    world.apply_all()
    world.settle()
    (name,) = world.jobs()
    world.cluster.pending_pod(name)
    world.cluster.set_pod_status(name, pod_status)
    world.settle()
    assert world.status().message == f"restarting after: {message}"
    world.cluster.fail_job(name)
    world.settle()
    failure = world.status().failure
    assert failure is not None
    assert (failure.reason, failure.message) == (reason, f"{message} (restarts made no progress)")
    assert failure.hint


def evict(world: World, after: float = 1, *, stays: bool = False) -> None:
    """Preempt the running pod. The pod is deleted, unless it ``stays`` as a failed pod."""
    (job,) = world.active_jobs()
    name = job["metadata"]["name"]
    pod = world.cluster.start_pod(name)
    world.advance(after)
    ended = pod_status.terminated(pod, 137, "", world.clock.now())
    world.cluster.set_pod_status(name, ended | disrupted("", "preempted", "PreemptionByScheduler"))
    world.settle()
    if not stays:
        world.cluster.as_user.delete(Key.of(pod), pod["metadata"]["uid"])
        world.settle()


def test_eviction_does_not_count_as_a_restart():
    world = World()
    world.apply_all()
    world.until_checkpoint()
    for _ in range(9):
        evict(world)
    assert [e.step for e in world.status().evictions] == [10] * 9
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    assert [a.number for a in status.attempts if a.role == "train"] == [1]


def test_ten_evictions_without_a_new_checkpoint_fail_the_job():
    name = "a-name-as-long-as-a-label-may-be-and-so-cut-in-those-of-its-pods"[:63]
    world = World()
    world.apply_all(make_job(name).obj())
    world.until_checkpoint(name)
    for _ in range(10):
        evict(world)
    status = world.status(name)
    assert status.failure is not None
    assert status.failure.reason == Reason.EVICTED
    assert status.failure.message == (
        "train sft: 10 pods in a row were evicted, with no checkpoint after step 10"
    )
    assert world.active_jobs() == []
    assert status.attempts[-1].result == "Evicted"


def test_running_time_of_evicted_pods_counts_after_their_deletion():
    world = World()
    spec = {"activeDeadlineSeconds": 9000, "resources": {"gpu": {"count": 1}, "memory": "8Gi"}}
    world.apply_all(make_job().with_spec(**spec).obj())
    world.until_checkpoint()
    before = world.status()
    for n in range(1, 5):
        evict(world, after=1800)
        status = world.status()
        assert 1800 * n <= status.running_seconds - before.running_seconds < 1800 * n + 60
        assert status.gpu_seconds - before.gpu_seconds == (status.running_seconds - before.running_seconds)
    writes = len(world.status_writes())
    world.settle()
    assert len(world.status_writes()) == writes
    world.cluster.start_pod(world.active_jobs()[0]["metadata"]["name"])
    world.advance(1900)
    failure = world.status().failure
    assert failure is not None
    assert failure.reason == Reason.DEADLINE_EXCEEDED
    assert world.active_jobs() == []


def test_evicted_pods_that_are_not_deleted_are_recorded_once():
    world = World()
    world.apply_all()
    world.until_checkpoint()
    for n in range(14):
        evict(world, stays=True)
        if n == 8:
            done = len(world.status().checkpoints)
            while len(world.status().checkpoints) == done:
                world.tick()
                world.settle()
    writes = len(world.status_writes())
    world.edit(annotations={"note": "whatever wakes it"})
    world.settle()
    assert len(world.status_writes()) == writes
    assert world.run().phase is Phase.SUCCEEDED


def test_new_checkpoint_resets_the_count_of_evictions():
    world = World()
    world.apply_all()
    world.until_checkpoint()
    for _ in range(2):
        for _ in range(9):
            evict(world)
        done = len(world.status().checkpoints)
        while len(world.status().checkpoints) == done:
            world.tick()
            world.settle()
    assert world.run().phase is Phase.SUCCEEDED
    assert len(world.status().evictions) == 10


def test_exit_after_sigterm_without_a_known_cause_has_reason_killed():
    world = World(Script(exits={"data": [(int(ExitCode.INTERRUPTED), "")] * 4}))
    world.apply_all()
    failure = world.run().failure
    assert failure is not None
    assert failure.reason == Reason.KILLED


def test_suspend_deletes_the_pods_and_resume_starts_the_next_attempt():
    world = World()
    world.apply_all()
    while not world.status().checkpoints:
        world.settle()
        world.tick()
    world.edit(suspend=True)
    world.settle()
    assert world.status().phase is Phase.SUSPENDED
    assert world.active_jobs() == []
    assert world.condition("Reconciling") is None
    world.edit(suspend=False)
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    assert [(a.number, a.result) for a in status.attempts if a.role == "train"] == [
        (1, "Suspended"),
        (2, "Succeeded"),
    ]


def test_waiting_does_not_count_toward_active_deadline_seconds():
    world = World()
    world.apply_all(make_job().with_spec(activeDeadlineSeconds=100).obj())
    world.settle()
    world.advance(1000)
    (name,) = world.jobs()
    world.cluster.start_pod(name)
    world.settle()
    assert world.status().phase is Phase.VALIDATING
    world.advance(99)
    assert world.status().phase is Phase.VALIDATING
    world.advance(1)
    status = world.status()
    assert status.failure is not None
    assert status.failure.reason == Reason.DEADLINE_EXCEEDED
    assert world.active_jobs() == []


def test_completed_job_does_not_fail_at_its_deadline():
    world = World()
    world.apply_all(make_job().with_publish().obj())
    used = world.run().running_seconds
    again = World()
    again.apply_all(make_job().with_publish().with_spec(activeDeadlineSeconds=used).obj())
    status = again.run()
    assert status.running_seconds == used
    assert (status.phase, status.failure) == (Phase.SUCCEEDED, None)


def test_missing_last_report_fails_the_job_after_120_seconds():
    world = World()
    world.apply_all()
    world.settle()
    (name,) = world.jobs()
    world.cluster.complete_job(name)
    world.settle()
    assert "waiting for its last report" in world.status().message
    world.advance(119)
    assert world.status().phase is Phase.VALIDATING
    world.advance(1)
    status = world.status()
    assert status.failure is not None
    assert status.failure.reason == Reason.REPORT_MISSING


def test_start_timeout_deletes_the_child_jobs():
    world = World()
    world.apply_all(make_job().with_spec(startTimeoutSeconds=60).obj())
    world.until_job("train")
    world.advance(61)
    status = world.status()
    assert status.failure is not None
    assert status.failure.reason == Reason.START_TIMEOUT
    assert world.active_jobs() == [], "no pod starts when a GPU becomes free"
    assert status.attempts[-1].result == Reason.START_TIMEOUT


def test_refused_results_configmap_fails_the_job_and_deletes_its_pods():
    world = World()
    world.apply_all()
    world.until_job("train")
    world.cluster.refuse("ConfigMap", "Too long: must have at most 1048576 bytes")
    status = world.run()
    assert status.failure is not None
    assert status.failure.reason == Reason.REFUSED
    assert "Too long" in status.failure.message
    assert world.active_jobs() == []


@pytest.mark.parametrize("role", ["data", "train", "gate"])
def test_completed_step_is_not_repeated_after_child_job_deletion(role):
    world = World()
    world.apply_all(make_job().with_publish().obj())
    following = {"data": "train", "train": "gate", "gate": "publish"}[role]
    world.until_job(following)
    (done,) = [
        job
        for job in world.cluster.as_user.list_objects("Job")
        if job["metadata"]["labels"]["tunegate.dev/role"] == role
    ]
    world.cluster.as_user.delete(Key.of(done), uid_of(done))
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    assert [a.number for a in status.attempts if a.role == role] == [1]


@pytest.mark.parametrize("role", ["data", "train", "gate"])
def test_running_child_that_loses_its_label_is_not_created_twice(role: str) -> None:
    """The watch selects children by label, so it reports this child as deleted although it still runs."""
    world = World()
    world.apply_all()
    world.until_job(role)
    (child,) = world.active_jobs()
    labels = {k: v for k, v in child["metadata"]["labels"].items() if k not in MANAGED_LABELS}
    unlabelled = world.cluster.as_user.replace(child | {"metadata": child["metadata"] | {"labels": labels}})
    version = {"resourceVersion": unlabelled["metadata"]["resourceVersion"]}
    lost = WatchEvent("DELETED", child | {"metadata": child["metadata"] | version})
    world.reconciler.handle(lost)
    world.settle()
    assert world.cache.by_uid(uid_of(child)) is not None, "it was found by its name"
    assert world.run().phase is Phase.SUCCEEDED
    assert len([name for name in world.jobs() if f"-{role}-" in name]) == 1


def test_job_keeps_the_trainer_image_that_it_started_with():
    world = World()
    world.apply_all()
    world.until_job("train")
    world.trainer_image = "trainer:newer"
    world.boot()
    assert world.run().phase is Phase.SUCCEEDED
    images = {
        job["spec"]["template"]["spec"]["containers"][0]["image"]
        for job in world.cluster.as_user.list_objects("Job")
    }
    assert images == {"trainer:test"}


def test_refused_child_fails_the_job_with_the_refusal_message():
    world = World()
    world.cluster.refuse("Job", "spec.template: invalid image name")
    world.apply_all()
    world.settle()
    world.advance(1)
    status = world.status()
    assert status.failure is not None
    assert status.failure.reason == Reason.REFUSED
    assert "invalid image name" in status.failure.message


def test_plan_reported_at_the_deadline_is_recorded():
    world = World()
    world.apply_all(make_job().with_spec(activeDeadlineSeconds=100).obj())
    world.settle()
    (job,) = world.active_jobs()
    world.play(job)
    world.settle()
    world.clock.advance(200)
    world.play(job)
    world.settle()
    status = world.status()
    assert status.failure is not None
    assert status.failure.reason == Reason.DEADLINE_EXCEEDED
    assert status.plan is not None
    assert world.cluster.as_user.get(Key("ConfigMap", "default", status.plan.config_map)) is not None


def test_exit_code_of_a_sidecar_is_ignored():
    world = World()
    world.apply_all()
    world.settle()
    (name,) = world.jobs()
    pod = world.cluster.start_pod(name)
    status = pod_status.terminated(pod, 137, "", world.clock.now(), reason="OOMKilled")
    proxy = {"name": "proxy", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
    status["containerStatuses"] = [proxy, *status["containerStatuses"]]
    world.cluster.set_pod_status(name, status)
    world.settle()
    failure = world.status().failure
    assert failure is not None
    assert failure.reason == Reason.OUT_OF_MEMORY
