"""What is missing but may come is waited for, with its reason, until the start timeout."""

import pytest

from support.builders import golden_text, make_config_map, make_gate, make_job
from support.world import World
from tunegate_api.v1alpha1.finetunejob_status import Phase, Reason
from tunegate_operator.engine.cluster import Key, Object

ROWS = make_config_map("rows", train__jsonl="{}")
CASES = make_config_map("cases", golden__jsonl=golden_text())


def test_a_missing_gate_is_waited_for():
    world = World()
    world.apply(ROWS, CASES, make_job().obj())
    world.settle()
    assert (world.status().phase, world.condition("Ready").reason) == (Phase.PENDING, Reason.GATE_NOT_FOUND)
    assert world.condition("Ready").status == "Unknown"
    world.apply(make_gate().obj())
    assert world.run().phase is Phase.SUCCEEDED


def test_a_gate_without_its_golden_set_is_waited_for():
    world = World()
    world.apply(ROWS, make_gate().obj(), make_job().obj())
    world.settle()
    assert world.status().message == (
        "EvalGate golden is not ready: ConfigMap cases does not exist in this namespace"
    )
    world.apply(CASES)
    assert world.run().phase is Phase.SUCCEEDED


def test_missing_data_is_waited_for():
    world = World()
    world.apply(CASES, make_gate().obj(), make_job().obj())
    world.settle()
    assert world.condition("Ready").reason == Reason.CONFIG_MAP_NOT_FOUND
    assert world.status().message == "ConfigMap rows does not exist in this namespace"
    world.apply(ROWS)
    assert world.run().phase is Phase.SUCCEEDED


def test_waiting_ends_at_the_start_timeout_and_says_for_what():
    world = World()
    world.apply(ROWS, CASES, make_job().with_spec(startTimeoutSeconds=60).obj())
    world.settle()
    world.advance(59)
    assert world.status().phase is Phase.PENDING
    world.advance(1)
    status = world.status()
    assert status.phase is Phase.FAILED
    assert status.failure is not None
    assert status.failure.reason == Reason.START_TIMEOUT
    assert status.failure.message == (
        "waited 60 s: GateNotFound: EvalGate golden does not exist in this namespace"
    )


def waiting(reason: str, message: str = "") -> Object:
    """The status of a pod whose container does not start."""
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "containerStatuses": [{"state": state}]}


@pytest.mark.parametrize(
    ("pod_status", "reason", "message"),
    [
        (
            {
                "phase": "Pending",
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "message": "0/1 nodes: insufficient nvidia.com/gpu",
                    }
                ],
            },
            Reason.POD_UNSCHEDULABLE,
            "data: 0/1 nodes: insufficient nvidia.com/gpu",
        ),
        (
            waiting("ImagePullBackOff", "no such image"),
            Reason.IMAGE_PULL,
            "data: ImagePullBackOff: no such image",
        ),
        (
            waiting("CreateContainerConfigError", 'configmap "rows" not found'),
            Reason.CONFIG_MAP_NOT_FOUND,
            'data: CreateContainerConfigError: configmap "rows" not found',
        ),
        (
            waiting("CreateContainerError", "no space left on device"),
            Reason.POD_NOT_STARTED,
            "data: CreateContainerError: no space left on device",
        ),
        (waiting("ContainerCreating"), Reason.POD_NOT_STARTED, "data: ContainerCreating"),
        (
            {"phase": "Pending"},
            Reason.POD_NOT_STARTED,
            "waiting for a pod: checking the data and fetching the model",
        ),
    ],
)
def test_a_pod_that_cannot_start_says_why(pod_status, reason, message):
    world = World()
    world.apply_all()
    world.settle()
    (name,) = world.jobs()
    world.cluster.pending_pod(name, status=pod_status)
    world.settle()
    assert (world.condition("Ready").reason, world.status().message) == (reason, message)
    world.advance(3600)
    failure = world.status().failure
    assert failure is not None
    assert failure.reason == Reason.START_TIMEOUT


def test_time_spent_waiting_is_counted_anew_after_it_ended():
    world = World()
    world.apply(ROWS, CASES, make_job().with_spec(startTimeoutSeconds=60).obj())
    world.settle()
    world.advance(50)
    world.apply(make_gate().obj())
    world.settle()
    assert world.status().waiting_since == world.clock.now(), "for its pod, since now"
    world.advance(59)
    assert world.status().phase is Phase.PENDING


def test_a_name_that_another_object_has_is_waited_for():
    world = World()
    world.apply_all()
    uid = world.job()["metadata"]["uid"]
    name = f"orders-data-{uid[:5]}-1"
    stranger = world.cluster.as_user.create(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {}}
    )
    world.settle()
    world.advance(1)
    assert world.condition("Ready").reason == Reason.NAME_TAKEN
    assert world.status().message == f"Job {name} exists and belongs to nobody"
    world.cluster.as_user.delete(Key.of(stranger), stranger["metadata"]["uid"])
    world.advance(10)
    assert world.run().phase is Phase.SUCCEEDED


def test_a_name_that_stays_taken_ends_at_the_start_timeout():
    world = World()
    world.apply_all(make_job().with_spec(startTimeoutSeconds=60).obj())
    name = f"orders-data-{world.job()['metadata']['uid'][:5]}-1"
    world.cluster.as_user.create(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {}}
    )
    for _ in range(40):
        world.advance(5)
    failure = world.status().failure
    assert failure is not None
    assert failure.reason == Reason.START_TIMEOUT


def test_an_image_name_that_is_invalid_fails_at_once():
    world = World()
    world.apply_all()
    world.settle()
    (name,) = world.jobs()
    world.cluster.pending_pod(name, status=waiting("InvalidImageName", 'invalid reference "UPPER"'))
    world.settle()
    status = world.status()
    assert status.phase is Phase.FAILED
    assert status.failure is not None
    assert status.failure.reason == Reason.IMAGE_PULL
    assert status.failure.message == 'data: the image\'s name is invalid: invalid reference "UPPER"'
    assert status.failure.hint == (
        "Correct the trainer image in the operator's settings, and create the job again."
    )
    assert not world.active_jobs()


def test_waiting_for_a_node_is_no_running_time():
    world = World()
    world.apply_all(make_job().with_spec(activeDeadlineSeconds=60).obj())
    world.settle()
    world.advance(3000)
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    assert status.running_seconds < 60
