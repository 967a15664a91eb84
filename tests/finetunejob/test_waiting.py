"""A job waits for missing inputs, and shows the reason, until the start timeout."""

import pytest

from support.builders import golden_text, make_config_map, make_gate, make_job
from support.graders import JUDGE, PEOPLE, with_graders
from support.world import World
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.owners import owner_reference

ROWS = make_config_map("rows", train__jsonl="{}")
CASES = make_config_map("cases", golden__jsonl=golden_text())


def test_job_waits_for_a_missing_gate():
    world = World()
    world.apply(ROWS, CASES, make_job().obj())
    world.settle()
    assert (world.status().phase, world.condition("Ready").reason) == (Phase.PENDING, Reason.GATE_NOT_FOUND)
    assert world.condition("Ready").status == "Unknown"
    world.apply(make_gate().obj())
    assert world.run().phase is Phase.SUCCEEDED


def test_job_waits_for_a_gate_without_its_golden_set():
    world = World()
    world.apply(ROWS, make_gate().obj(), make_job().obj())
    world.settle()
    assert world.status().message == (
        "EvalGate golden is not ready: ConfigMap cases does not exist in this namespace"
    )
    world.apply(CASES)
    assert world.run().phase is Phase.SUCCEEDED


def test_job_waits_for_missing_data():
    world = World()
    world.apply(CASES, make_gate().obj(), make_job().obj())
    world.settle()
    assert world.condition("Ready").reason == Reason.CONFIG_MAP_NOT_FOUND
    assert world.status().message == "ConfigMap rows does not exist in this namespace"
    world.apply(ROWS)
    assert world.run().phase is Phase.SUCCEEDED


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({"model": {"uri": "file:///models/base"}}, "spec.model.uri"),
        (
            {"publish": [{"uri": "pvc://models/orders"}, {"uri": "file:///tmp/orders"}]},
            "spec.publish[1].uri",
        ),
        (
            {
                "data": {
                    "goal": "StyleOrFormat",
                    "sizePolicy": "Warn",
                    "sources": [
                        {"name": "train", "uri": "file:///rows.jsonl"},
                        {"name": "chats", "use": "Mix", "uri": "file:///chats.jsonl"},
                        {"name": "preference", "use": "Preference", "uri": "file:///pairs.jsonl"},
                        {"name": "production", "use": "Production", "uri": "file:///requests.jsonl"},
                    ],
                },
                "stages": [
                    {"name": "dpo", "method": "DPO", "adapter": {"type": "LoRA", "r": 8, "alpha": 16}}
                ],
            },
            "spec.data.sources[train].uri, spec.data.sources[chats].uri, spec.data.sources[preference].uri, "
            "spec.data.sources[production].uri",
        ),
    ],
)
def test_file_uris_are_refused_on_a_cluster_without_pods(spec, fields):
    world = World()
    world.apply_all(make_job().with_spec(**spec).obj())
    world.settle()
    failure = world.status().failure
    assert failure is not None
    assert failure.reason == Reason.INVALID_SPEC
    assert failure.message.startswith(f"{fields}: pods on a cluster cannot read file://")
    assert "pvc://CLAIM/PATH" in failure.hint
    assert world.jobs() == []


def test_local_calibration_rows_are_refused_on_a_cluster():
    gate, people = make_gate().obj(), PEOPLE | {"source": {"uri": "file:///scored.jsonl"}}
    gate["spec"] = with_graders(gate["spec"], JUDGE, people=people)
    world = World()
    world.apply_all(make_job().obj(), gate=gate)
    world.settle()
    failure = world.status().failure
    assert failure is not None
    assert failure.message.startswith("EvalGate golden: spec.sets[people].source.uri: pods on a cluster")


@pytest.mark.parametrize("kind", ["golden", "safety"])
def test_case_set_in_local_file_is_refused_on_cluster(kind):
    world, gate = World(), make_gate()
    pinned = {"source": {"uri": "file:///sets/cases.jsonl"}, "sha256": "a" * 64}
    (gate.with_golden if kind == "golden" else gate.with_safety)(**pinned)
    world.apply_all(gate=gate.obj())
    world.settle()
    failure = world.status().failure
    assert failure is not None
    assert failure.reason == Reason.INVALID_SPEC
    assert failure.message.startswith(
        f"EvalGate golden: spec.sets[{kind}].source.uri: pods on a cluster cannot"
    )
    assert world.jobs() == []


def test_replacement_of_a_deleted_pod_has_full_start_timeout():
    world = World()
    world.apply_all(make_job().with_spec(startTimeoutSeconds=600).obj())
    world.until_job("gate")
    (gate,) = world.active_jobs()
    pod = world.cluster.start_pod(gate["metadata"]["name"])
    world.advance(700)
    world.cluster.delete_pod(pod)
    world.cluster.finalize(Key.of(pod), pod["metadata"]["uid"])
    world.settle()
    assert world.cluster.pods_of(gate["metadata"]["name"]) == []
    assert world.status().phase is Phase.GATING, "the Job controller creates the next pod after a pause"
    assert world.run().phase is Phase.SUCCEEDED


@pytest.mark.parametrize("kind", ["ConfigMap", "Job"])
def test_quota_exceeded_until_the_start_timeout_fails_the_job(kind):
    world = World()
    world.apply(ROWS, CASES, make_gate().obj())
    world.cluster.forbid(kind, "exceeded quota: team")
    world.apply(make_job().with_spec(startTimeoutSeconds=60).obj())
    world.settle()
    for _ in range(4):
        world.advance(60)
    failure = world.status().failure
    assert failure is not None
    assert (world.status().phase, failure.reason) == (Phase.FAILED, Reason.START_TIMEOUT)
    assert "exceeded quota: team" in failure.message


def test_unavailable_api_server_is_shown_until_the_start_timeout():
    world = World()
    world.apply_all(make_job().with_spec(startTimeoutSeconds=600).obj())
    world.until_job("train")
    world.cluster.fail("Job", 'failed calling webhook "jobs.example.org": connection refused')
    world.run()
    world.advance(30)
    assert world.status().phase is Phase.GATING
    assert world.condition("Ready").reason == Reason.POD_NOT_STARTED
    assert "failed calling webhook" in world.status().message
    for _ in range(12):
        world.advance(60)
    failure = world.status().failure
    assert failure is not None
    assert failure.reason == Reason.START_TIMEOUT


def test_wait_for_data_ends_if_the_configmap_has_owner():
    world = World()
    world.apply(CASES, make_gate().obj(), make_job().obj())
    world.settle()
    assert not world.active_jobs()
    world.apply(ROWS | {"metadata": ROWS["metadata"] | {"ownerReferences": [owner_reference(world.gate())]}})
    world.settle()
    assert world.active_jobs()


def test_start_timeout_names_what_the_job_waited_for():
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
    """Return the status of a pod whose container cannot start."""
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "containerStatuses": [{"name": "trainer", "state": state}]}


def unschedulable(message: str) -> Object:
    """Return the status of a pod that does not fit any node."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [condition]}


@pytest.mark.parametrize(
    ("pod_status", "reason", "message"),
    [
        (
            unschedulable("0/1 nodes: insufficient nvidia.com/gpu"),
            Reason.POD_UNSCHEDULABLE,
            "data: 0/1 nodes: insufficient nvidia.com/gpu",
        ),
        (
            waiting("ImagePullBackOff", "no such image"),
            Reason.IMAGE_PULL,
            "data: ImagePullBackOff: no such image",
        ),
        (
            waiting("ImagePullBackOff", 'Back-off pulling image "r/t:1": ErrImagePull: r/t:1: not found'),
            Reason.IMAGE_PULL,
            "data: ErrImagePull: r/t:1: not found",
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
        (
            waiting("CreateContainerConfigError", 'secret "token" not found'),
            Reason.SECRET_NOT_FOUND,
            'data: CreateContainerConfigError: secret "token" not found',
        ),
        (
            waiting("CreateContainerConfigError", "couldn't find key rows in ConfigMap default/data"),
            Reason.CONFIG_MAP_NOT_FOUND,
            "data: CreateContainerConfigError: couldn't find key rows in ConfigMap default/data",
        ),
        (
            waiting("ContainerCreating"),
            Reason.POD_NOT_STARTED,
            "waiting for a pod: checking the data and fetching the model",
        ),
        (
            unschedulable('persistentvolumeclaim "tuning" not found'),
            Reason.VOLUME_NOT_READY,
            'data: persistentvolumeclaim "tuning" not found',
        ),
        (
            unschedulable("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."),
            Reason.VOLUME_NOT_READY,
            "data: 0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
        ),
        (
            unschedulable("0/2 nodes: 1 Insufficient nvidia.com/gpu, 1 volume node affinity conflict."),
            Reason.POD_UNSCHEDULABLE,
            "data: 0/2 nodes: 1 Insufficient nvidia.com/gpu, 1 volume node affinity conflict. "
            "(the storage volume can be mounted only on nodes, or in a zone, where the pod does not fit)",
        ),
        (
            unschedulable("0/1 nodes are available: 1 node(s) had untolerated taint {gpu: l4}."),
            Reason.POD_UNSCHEDULABLE,
            "data: 0/1 nodes are available: 1 node(s) had untolerated taint {gpu: l4}.",
        ),
        (
            {"phase": "Pending"},
            Reason.POD_NOT_STARTED,
            "waiting for a pod: checking the data and fetching the model",
        ),
    ],
)
def test_status_shows_why_a_pod_cannot_start(pod_status, reason, message):
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


def test_scheduler_message_with_changing_counts_is_written_every_30_s():
    """While an autoscaler adds and removes nodes, the operator makes eleven status writes in five minutes,
    and emits no event."""
    world = World()
    world.apply_all()
    world.settle()
    (name,) = world.jobs()
    message = "0/{} nodes are available: {} Insufficient nvidia.com/gpu."
    world.cluster.pending_pod(name, status=unschedulable(message.format(5, 3)))
    world.settle()
    before, events, writes = world.status(), world.events(), len(world.status_writes())
    for second in range(5, 305, 5):
        world.cluster.set_pod_status(name, unschedulable(message.format(5 + second % 7, second % 4)))
        world.advance(5)
    assert len(world.status_writes()) - writes <= 11
    assert world.events() == events
    world.advance(30)
    assert world.status().message == f"data: {message.format(5 + second % 7, second % 4)}", "the last one"
    assert world.status().waiting_since == before.waiting_since
    ready = world.condition("Ready")
    assert (ready.message, ready.reason) == (world.status().message, Reason.POD_UNSCHEDULABLE)
    assert ready.last_transition_time == before.conditions[0].last_transition_time


def test_alternating_scheduler_messages_are_written_every_30_seconds():
    world = World()
    world.apply_all()
    world.settle()
    (name,) = world.jobs()
    messages = [
        "0/5 nodes are available: 5 Insufficient nvidia.com/gpu.",
        "0/6 nodes are available: 1 node(s) were unschedulable, 5 Insufficient nvidia.com/gpu.",
    ]
    world.cluster.pending_pod(name, status=unschedulable(messages[0]))
    world.settle()
    before = len(world.status_writes())
    for second in range(0, 300, 5):
        world.cluster.set_pod_status(name, unschedulable(messages[second // 5 % 2]))
        world.advance(5)
    assert len(world.status_writes()) - before <= 11
    world.advance(30)
    assert world.status().message == f"data: {messages[1]}"


def test_new_waiting_reason_is_written_at_once():
    world = World()
    world.apply_all()
    world.settle()
    (name,) = world.jobs()
    world.cluster.pending_pod(name, status=unschedulable("0/1 nodes: 1 Insufficient nvidia.com/gpu"))
    world.settle()
    world.cluster.set_pod_status(name, waiting("ErrImagePull", "no such image"))
    world.settle()
    assert world.status().message == "data: ErrImagePull: no such image"


def test_start_timeout_restarts_for_the_next_wait():
    world = World()
    world.apply(ROWS, CASES, make_job().with_spec(startTimeoutSeconds=60).obj())
    world.settle()
    world.advance(50)
    world.apply(make_gate().obj())
    world.settle()
    assert world.status().waiting_since == world.clock.now(), "the wait for its pod starts now"
    world.advance(59)
    assert world.status().phase is Phase.PENDING


def test_job_waits_while_another_object_has_the_childs_name():
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
    assert world.status().message == f"Job {name} already exists, but it has no owner"
    world.cluster.as_user.delete(Key.of(stranger), stranger["metadata"]["uid"])
    world.advance(10)
    assert world.run().phase is Phase.SUCCEEDED


def test_child_name_conflict_fails_the_job_at_start_timeout():
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


def test_invalid_image_name_fails_the_job_at_once():
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


def test_waiting_for_a_node_does_not_count_as_running_time():
    world = World()
    world.apply_all(make_job().with_spec(activeDeadlineSeconds=60).obj())
    world.settle()
    world.advance(3000)
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    assert status.running_seconds < 60


FAILED_MOUNT = 'MountVolume.SetUp failed for volume "request" : configmap "orders-request" not found'
MULTI_ATTACH = 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) other'
EXCEEDED_QUOTA = 'Error creating: pods "orders" is forbidden: exceeded quota: team, requested: pods=1'
VIOLATES = 'Error creating: pods "orders" is forbidden: violates PodSecurity "restricted:latest"'


def silent_pod(world: World) -> Object:
    """Create the data pod, whose status shows no reason why it does not start."""
    world.apply_all()
    world.settle()
    (name,) = world.jobs()
    return world.cluster.pending_pod(name, status=waiting("ContainerCreating"))


@pytest.mark.parametrize(
    ("event_reason", "message", "reason"),
    [
        ("FailedMount", FAILED_MOUNT, Reason.CONFIG_MAP_NOT_FOUND),
        ("FailedMount", 'secret "token" not found', Reason.SECRET_NOT_FOUND),
        ("FailedMount", "Unable to attach or mount volumes: timed out", Reason.VOLUME_NOT_READY),
        ("FailedAttachVolume", MULTI_ATTACH, Reason.VOLUME_NOT_READY),
        ("FailedCreatePodSandBox", "network is not ready", Reason.POD_NOT_STARTED),
    ],
)
def test_pod_events_show_why_a_pod_does_not_start(event_reason, message, reason):
    world = World()
    pod = silent_pod(world)
    world.cluster.as_user.record_event(pod, "Warning", event_reason, message)
    world.settle()
    world.advance(9)
    assert world.condition("Ready").reason == Reason.POD_NOT_STARTED
    world.advance(1)
    assert world.condition("Ready").reason == reason
    assert world.status().message == f"data: {event_reason}: {message}"


@pytest.mark.parametrize(
    ("message", "reason"), [(EXCEEDED_QUOTA, Reason.QUOTA_EXCEEDED), (VIOLATES, Reason.FORBIDDEN)]
)
def test_status_shows_from_events_why_no_pod_exists(message, reason):
    world = World()
    world.apply_all()
    world.settle()
    (job,) = world.active_jobs()
    world.cluster.as_user.record_event(job, "Warning", "FailedCreate", message)
    world.advance(10)
    assert world.condition("Ready").reason == reason
    assert world.status().message == f"data: FailedCreate: {message}"
    world.run()
    assert world.status().phase is Phase.SUCCEEDED


def test_status_shows_slow_image_pull_instead_of_older_event():
    world = World()
    pod = silent_pod(world)
    world.cluster.as_user.record_event(pod, "Warning", "FailedMount", "timed out")
    world.advance(10)
    world.cluster.as_user.record_event(pod, "Normal", "Pulling", 'Pulling image "trainer"')
    world.advance(60)
    assert world.condition("Ready").reason == Reason.POD_NOT_STARTED
    assert world.status().message == 'data: Pulling image "trainer"'


def test_events_are_read_once_a_minute_without_status_reason():
    world = World()
    pod = silent_pod(world)
    for _ in range(65):
        world.advance(1)
    assert world.cluster.event_lists == [pod["metadata"]["uid"]]
    for _ in range(60):
        world.advance(1)
    assert len(world.cluster.event_lists) == 2
    world.cluster.pending_pod(world.jobs()[0], status=unschedulable("no room"))
    for _ in range(120):
        world.advance(1)
    assert len(world.cluster.event_lists) == 2


def test_job_without_problems_looks_up_no_events():
    world = World()
    world.apply_all()
    world.run()
    assert world.cluster.event_lists == []


def test_failed_event_lookup_changes_nothing():
    world = World()
    silent_pod(world)
    with world.cluster.unavailable():
        world.advance(10)
    world.advance(1)
    assert world.condition("Ready").reason == Reason.POD_NOT_STARTED
    assert world.run().phase is Phase.SUCCEEDED


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ('jobs.batch "orders" is forbidden: exceeded quota: team', Reason.QUOTA_EXCEEDED),
        ('jobs.batch "orders" is forbidden: User "tunegate" cannot create', Reason.FORBIDDEN),
    ],
)
def test_job_waits_while_the_creation_of_a_child_is_forbidden(message, reason):
    world = World()
    world.cluster.forbid("Job", message)
    world.apply_all()
    world.settle()
    world.advance(1)
    assert (world.status().phase, world.condition("Ready").reason) == (Phase.PENDING, reason)
    assert world.status().message == f"data: {message}"
    world.cluster.forbid("Job", None)
    world.advance(60)
    assert world.run().phase is Phase.SUCCEEDED


def test_pending_gate_pod_is_shown_only_with_a_reason():
    """The phase is Gating before and after the gate pod starts, so a pod that starts normally changes nothing
    in status."""
    world = World()
    world.apply_all(make_job().with_spec(startTimeoutSeconds=600).obj())
    world.until_job("gate")
    assert (world.status().phase, world.status().message) == (Phase.GATING, "judging the artifact")
    (job,) = world.active_jobs()
    world.advance(300)
    world.cluster.pending_pod(job["metadata"]["name"], status=unschedulable("no room"))
    world.settle()
    assert (world.condition("Ready").reason, world.status().message) == (
        Reason.POD_UNSCHEDULABLE,
        "gate: no room",
    )
    world.cluster.set_pod_status(job["metadata"]["name"], waiting("ContainerCreating"))
    world.settle()
    assert world.status().message == "judging the artifact"
    world.advance(599)
    assert world.status().phase is Phase.GATING
    world.advance(1)
    failure = world.status().failure
    assert failure is not None
    assert failure.reason == Reason.START_TIMEOUT
    assert failure.message == "waited 600 s: PodNotStarted: no pod: judging the artifact"


def test_child_that_stays_forbidden_fails_job_at_start_timeout():
    world = World()
    world.cluster.forbid("Job", "exceeded quota: team")
    world.apply_all(make_job().with_spec(startTimeoutSeconds=60).obj())
    world.settle()
    world.advance(59)
    assert world.status().phase is Phase.PENDING
    world.advance(1)
    failure = world.status().failure
    assert failure is not None
    assert failure.message == "waited 60 s: QuotaExceeded: data: exceeded quota: team"


def test_server_errors_after_the_first_are_written_every_30_seconds():
    world = World()
    world.cluster.fail("Job", "read tcp 10.0.0.1:50001: connection reset")
    world.apply_all()
    world.settle()
    writes = len(world.status_writes())
    assert "50001" in world.status().message
    for port in range(50002, 50062):
        world.cluster.fail("Job", f"read tcp 10.0.0.1:{port}: connection reset")
        world.advance(5)
    assert len(world.status_writes()) - writes <= 11
    world.cluster.fail("Job", "failed calling webhook: no endpoints")
    world.advance(1000)
    world.advance(1000)
    assert world.status().message == "data: failed calling webhook: no endpoints"


def test_succeeded_pod_of_an_active_child_job_changes_no_status():
    """The pod has ended, but the Job controller has not updated the Job yet."""
    world = World()
    world.apply_all()
    world.settle()
    (name,) = world.jobs()
    world.cluster.start_pod(name)
    world.settle()
    before, writes = world.status(), len(world.cluster.writes)
    world.cluster.set_pod_status(name, {"phase": "Succeeded"})
    world.settle()
    assert world.status() == before
    assert len(world.cluster.writes) == writes


def test_node_that_does_not_confirm_pods_end_is_shown():
    world = World()
    world.apply_all(make_job().with_spec(startTimeoutSeconds=600).obj())
    world.settle()
    (name,) = world.jobs()
    pod = world.cluster.start_pod(name)
    world.settle()
    world.cluster.delete_pod(pod)
    world.settle()
    world.advance(149)
    assert world.status().message == "checking the data and fetching the model"
    world.advance(1)
    name = pod["metadata"]["name"]
    assert world.condition("Ready").reason == Reason.NODE_LOST
    assert world.status().message == f"data: pod {name} should have ended, but its node does not confirm it"
    assert world.status().phase is Phase.VALIDATING
    world.advance(600)
    failure = world.status().failure
    assert failure is not None
    assert failure.reason == Reason.START_TIMEOUT
