"""Two pods that train one model start, end and restart together."""

from typing import Any

import pytest

from support.builders import make_job
from support.world import World, failed
from tunegate_api.contract.process import ExitCode, Outcome, Termination
from tunegate_api.v1alpha2.finetunejob_status import MAX_ATTEMPTS, MAX_EVICTIONS
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.children import pod_status
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.objects import uid_of
from tunegate_operator.engine.owners import owner_reference
from tunegate_operator.names import nodes_name

SAVED = (
    int(ExitCode.INTERRUPTED),
    Termination(exit_code=ExitCode.INTERRUPTED, outcome=Outcome.INTERRUPTED).model_dump_json(by_alias=True),
)
LOST = failed(ExitCode.INTERNAL_ERROR, Reason.PEER_LOST, "another rank of this training ended")
KILLED = (137, "")
Ends = list[dict[str, Any]]


def end(code: int, message: str = "", **how: Any) -> dict[str, Any]:
    return {"exit_code": code, "message": message, **how}


@pytest.fixture
def world() -> World:
    """Return a world whose job has two training pods, each with two GPUs, and no checkpoint yet."""
    world = World()
    resources = {"nodes": 2, "gpu": {"count": 2}}
    world.apply_all(make_job().with_spec(resources=resources).obj())
    world.until_job("train")
    both_run(world)
    return world


def training(world: World) -> Object:
    (job,) = world.active_jobs()
    return job


def both_run(world: World) -> None:
    name = training(world)["metadata"]["name"]
    for _ in range(2):
        world.cluster.start_pod(name)
    world.settle()


def both_end(world: World, *ends: dict[str, Any]) -> None:
    """End all pods of the training Job, pod 0 first. Each of ``ends`` describes the end of one pod."""
    name = training(world)["metadata"]["name"]
    for index, how in enumerate(ends):
        world.cluster.finish_pod(name, index=index, **how)
    world.settle()


def attempts(world: World) -> list[tuple[int, str]]:
    return [(a.number, a.result) for a in world.status().attempts if a.role == "train"]


def test_all_pods_run_in_parallel_with_pod_0s_address(world):
    job = training(world)
    spec, name = job["spec"], job["metadata"]["name"]
    pod = spec["template"]["spec"]
    service = world.cluster.as_user.get(Key("Service", "default", pod["subdomain"]))
    assert service is not None
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 2, 2)
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["metadata"]["ownerReferences"][0]["name"] == "orders"
    assert service["spec"]["selector"].items() <= spec["template"]["metadata"]["labels"].items()
    environment = {e["name"]: e for e in pod["containers"][0]["env"]}
    assert environment["TUNEGATE_MASTER"]["value"] == f"{name}-0.{service['metadata']['name']}:29500"
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"


def test_long_job_name_is_cut_so_that_pod_indexes_fit():
    world = World()
    world.apply_all(make_job("7" * 63).with_spec(resources={"nodes": 2}).obj())
    world.until_job("train")
    job = training(world)
    assert len(f"{job['metadata']['name']}-1023") <= 63
    assert job["spec"]["template"]["spec"]["subdomain"][0].isalpha(), (
        "the name of a Service must start with a letter"
    )
    assert len(job["spec"]["template"]["spec"]["subdomain"]) <= 63


def test_job_with_two_pods_succeeds(world):
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    gate = next(job for job in world.cluster.as_user.list_objects("Job") if "gate" in job["metadata"]["name"])
    assert "completions" not in gate["spec"]
    assert gate["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_job_waits_while_its_service_selects_other_pods():
    world = World()
    world.apply_all(make_job().with_spec(resources={"nodes": 2}).obj())
    job = world.job()
    name = nodes_name("orders", uid_of(job))
    metadata = {"name": name, "namespace": "default", "ownerReferences": [owner_reference(job)]}
    spec = {"clusterIP": "None", "selector": {"app": "evil"}}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    forged = world.cluster.as_user.create(service)
    world.run()
    assert world.condition("Ready").reason == Reason.NAME_TAKEN
    assert world.status().message == f"Service {name} already exists, but it selects other pods"
    assert not any("-train-" in name for name in world.jobs())
    world.cluster.as_user.delete(Key.of(forged), uid_of(forged))
    world.advance(10)
    assert world.run().phase is Phase.SUCCEEDED


def test_gpu_seconds_count_all_gpus_of_all_pods(world):
    before = world.status()
    world.advance(100)
    both_end(world, end(*LOST), end(*KILLED))
    after = world.status()
    seconds = after.running_seconds - before.running_seconds
    assert seconds >= 100
    assert after.gpu_seconds - before.gpu_seconds == 4 * seconds


def test_job_is_queued_until_all_its_pods_run():
    world = World()
    world.apply_all(make_job().with_spec(resources={"nodes": 2}).obj())
    world.until_job("train")
    name = training(world)["metadata"]["name"]
    world.cluster.start_pod(name)
    waits = {
        "type": "PodScheduled",
        "status": "False",
        "message": "0/3 nodes are available: 3 Insufficient GPUs",
    }
    world.cluster.pending_pod(name, status={"phase": "Pending", "conditions": [waits]})
    world.settle()
    status = world.status()
    assert (status.phase, world.condition("Ready").reason) == (Phase.QUEUED, Reason.POD_UNSCHEDULABLE)
    assert "0/3 nodes are available" in status.message
    world.advance(world.job()["spec"].get("startTimeoutSeconds", 3600))
    assert world.status().failure.reason == Reason.START_TIMEOUT


@pytest.mark.parametrize(
    ("ends", "reason"),
    [
        ([end(*LOST), end(*KILLED)], Reason.KILLED),
        ([end(*KILLED), end(*LOST)], Reason.KILLED),
        ([end(*SAVED), end(*SAVED)], Reason.EVICTED),
        ([end(*LOST), end(*SAVED)], Reason.EVICTED),
        ([end(*KILLED), end(*SAVED)], Reason.KILLED),
        ([end(*LOST), end(1, "Traceback\nValueError: odd")], Reason.INTERNAL_ERROR),
        ([end(*LOST), end(*LOST)], Reason.PEER_LOST),
    ],
    ids=[
        "the second killed",
        "the first killed",
        "both got SIGTERM",
        "one got SIGTERM",
        "one got SIGTERM after the other was killed",
        "one failed",
        "unknown cause",
    ],
)
def test_attempt_reason_comes_from_the_pod_that_caused_it(world, ends, reason):
    both_end(world, *ends)
    assert attempts(world) == [(1, reason)]
    if reason == Reason.EVICTED:
        assert len(world.status().evictions) == 1
    else:
        assert (world.status().evictions, world.active_jobs()) == ([], []), "it counts, and a pause follows"
    world.advance(10)
    assert training(world)["metadata"]["labels"]["tunegate.dev/attempt"] == "2", "all restart"


def test_permanent_failure_of_any_pod_fails_the_job(world):
    too_large = failed(ExitCode.CUDA_OUT_OF_MEMORY, Reason.CUDA_OUT_OF_MEMORY, "one example does not fit")
    both_end(world, end(*LOST), end(*too_large))
    failure = world.status().failure
    assert (failure.reason, failure.message) == (Reason.CUDA_OUT_OF_MEMORY, "one example does not fit")
    assert world.active_jobs() == []


def test_permanent_failure_fails_the_job_while_its_child_is_active(world):
    name = training(world)["metadata"]["name"]
    world.cluster.finish_pod(name, *LOST, index=0)
    world.settle()
    wrong = pod_status.terminated(
        world.cluster.pods_of(name)[1],
        *failed(ExitCode.USER_ERROR, Reason.USER_ERROR, "odd"),
        world.clock.now(),
    )
    world.cluster.set_pod_status(name, wrong)
    world.settle()
    assert world.status().failure.message == "odd"


def test_oom_kill_is_the_reason_although_another_pod_ended_first(world):
    both_end(world, end(*LOST), end(137, reason="OOMKilled"))
    assert world.status().failure.reason == Reason.OUT_OF_MEMORY


def test_job_fails_after_three_restarts_without_a_new_checkpoint(world):
    for number, pause in ((1, 10), (2, 20), (3, 40)):
        both_end(world, end(*LOST), end(*KILLED))
        assert world.status().message.startswith("restarting after: ")
        world.advance(pause - 1)
        assert world.active_jobs() == []
        world.advance(1)
        assert len(attempts(world)) == number
        both_run(world)
    both_end(world, end(*LOST), end(*KILLED))
    failure = world.status().failure
    assert failure.reason == Reason.KILLED
    assert failure.message.endswith("(restarts made no progress)")


def evict_one(world: World, name: str) -> Object:
    """Evict pod 1 of two running pods. The evicted pod saves a checkpoint first."""
    pod = world.cluster.pods_of(name)[1]
    status = pod_status.terminated(pod, *SAVED, world.clock.now())
    drained = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
    status["conditions"] = [*status["conditions"], drained]
    return world.cluster.set_pod_status(name, status)


def test_one_pods_eviction_restarts_all_without_counting_as_restart(world):
    for number in range(1, MAX_EVICTIONS):
        name = training(world)["metadata"]["name"]
        evict_one(world, name)
        world.settle()
        world.cluster.finish_pod(name, *SAVED, index=0)
        world.settle()
        assert len(world.status().evictions) == number, "one for each attempt"
        both_run(world)
    assert attempts(world) == [(n, Reason.EVICTED) for n in range(1, MAX_EVICTIONS)]
    evict_one(world, training(world)["metadata"]["name"])
    world.settle()
    failure = world.status().failure
    assert (failure.reason, f"{MAX_EVICTIONS} pods in a row" in failure.message) == (Reason.EVICTED, True)


@pytest.mark.parametrize("length", [6, 38, 45, 63])
def test_deleted_evicted_pod_is_recognized_for_any_job_name_length(length):
    world, name = World(), "n" * length
    world.apply_all(make_job(name).with_spec(resources={"nodes": 2}).obj())
    world.until_job("train")
    for _ in range(5):
        both_run(world)
        child = training(world)["metadata"]["name"]
        evicted = evict_one(world, child)
        world.settle()
        world.cluster.as_user.delete(Key.of(evicted), evicted["metadata"]["uid"])
        world.cluster.finish_pod(child, *LOST, index=0)
        world.settle()
        assert world.active_jobs(), "the next attempt has started"
    results = [a.result for a in world.status(name).attempts if a.role == "train"]
    assert results == [Reason.EVICTED] * 5


def test_node_losses_are_no_restarts_and_running_time_counts_once(world):
    gone = end(143, disruption="the node shuts down")
    seconds = world.status().running_seconds
    pauses = [10, 20, 40, 80, 160, 320, *[600] * MAX_ATTEMPTS]
    for number, pause in enumerate(pauses, start=1):
        world.advance(5)
        both_end(world, gone, gone)
        world.advance(pause - 1)
        assert world.active_jobs() == [], "there is a pause"
        world.advance(1)
        both_run(world)
        assert world.status().running_seconds == seconds + 5 * number
    status = world.status()
    assert {result for _, result in attempts(world)} == {Reason.NODE_LOST}
    assert len(status.attempts) == MAX_ATTEMPTS
    assert status.attempts[0].role == "data", "the last attempt of its step"
    assert world.run().phase is Phase.SUCCEEDED
