"""A job starts only if it names the gates that its namespace and the cluster require."""

import json
from typing import Any

import pytest

from support.builders import golden_text, make_config_map, make_gate, make_job, make_namespace
from support.recorded import request_of
from support.world import World
from tunegate_api.contract.request import Request
from tunegate_api.v1alpha2 import FineTuneJob
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.engine.cluster import ClusterError, ForbiddenError, Key, Object
from tunegate_operator.finetunejob.build import request_config_map

BOTH = [{"name": "golden"}, {"name": "policy"}]


def world_of(annotation: str | None, *, cluster: tuple[str, ...] = ()) -> World:
    """Return a world with the gates golden and policy, whose namespace and operator require gates."""
    world = World()
    world.required_gates = cluster
    world.boot()
    cases = make_config_map("cases", golden__jsonl=golden_text())
    rows = make_config_map("rows", train__jsonl="{}")
    world.apply(rows, cases, make_gate().obj(), make_gate("policy").obj(), make_namespace(annotation))
    return world


def annotate(world: World, annotation: str) -> None:
    """Change the annotation of the namespace, as an administrator does. No event reports this."""
    changed = make_namespace(annotation)
    stored = world.cluster.as_user.get(Key.of(changed))
    assert stored is not None
    world.cluster.as_user.replace(stored | {"metadata": stored["metadata"] | changed["metadata"]})


@pytest.mark.parametrize(
    ("annotation", "cluster", "missing"),
    [
        ("policy", (), "policy (by the namespace)"),
        (" golden , policy ", (), "policy (by the namespace)"),
        (None, ("policy",), "policy (by the cluster)"),
        ("policy,style", ("policy", "golden"), "policy (by the cluster), style (by the namespace)"),
    ],
)
def test_job_without_a_required_gate_fails_before_any_pod_starts(
    annotation: str | None, cluster: tuple[str, ...], missing: str
) -> None:
    world = world_of(annotation, cluster=cluster)
    world.apply(make_job().obj())
    world.settle()
    status = world.status()
    assert status.failure is not None
    assert (status.phase, status.failure.reason) == (Phase.FAILED, Reason.REQUIRED_GATES_MISSING)
    assert status.failure.message == f"spec.gates lacks gates that are required of every job: {missing}"
    assert "Add {name: policy}" in status.failure.hint
    assert "to spec.gates, and create the job again." in status.failure.hint
    assert world.jobs() == []
    assert world.condition("Stalled").reason == Reason.REQUIRED_GATES_MISSING


def test_forged_request_without_gates_is_not_used() -> None:
    """The policies of the chart let users write ConfigMaps without an owner of the group tunegate.dev."""
    world = world_of("policy")
    world.apply(make_job().with_spec(suspend=True).obj())
    world.settle()
    job = FineTuneJob.model_validate(world.job())
    request = Request(
        name=job.metadata.name, namespace="default", uid=job.metadata.uid, spec=job.spec, gates=[]
    )
    forged = request_config_map(job, request)
    forged["metadata"]["ownerReferences"][0]["apiVersion"] = "example.com/v1"
    world.apply(forged)
    world.edit(suspend=False)
    world.settle()
    assert world.status().failure.reason == Reason.REQUIRED_GATES_MISSING
    assert world.jobs() == []


@pytest.mark.parametrize("annotation", ["policy", "policy, golden,", "", " , ", None])
def test_job_with_all_required_gates_starts(annotation: str | None) -> None:
    world = world_of(annotation)
    world.apply(make_job().with_spec(gates=BOTH).obj())
    world.settle()
    assert len(world.active_jobs()) == 1


def test_job_starts_if_the_cluster_has_no_namespaces() -> None:
    world = World()
    world.apply_all()
    world.settle()
    assert len(world.active_jobs()) == 1


def test_gates_of_a_stage_do_not_count_as_required_gates() -> None:
    world = world_of("policy")
    stages: list[dict[str, Any]] = make_job().obj()["spec"]["stages"]
    world.apply(make_job().with_spec(stages=[stages[0] | {"gates": BOTH}]).obj())
    world.settle()
    failure = world.status().failure
    assert failure is not None
    assert failure.reason == Reason.REQUIRED_GATES_MISSING


@pytest.mark.parametrize(
    ("annotation", "wrong"),
    [("policy golden", "policy golden"), ("policy;golden", "policy;golden"), ("Policy", "Policy")],
)
def test_job_waits_while_the_annotation_is_malformed(annotation: str, wrong: str) -> None:
    world = world_of(annotation)
    world.apply(make_job().with_spec(gates=BOTH).obj())
    world.settle()
    ready = world.condition("Ready")
    assert (world.status().phase, ready.reason) == (Phase.PENDING, Reason.REQUIRED_GATES_UNKNOWN)
    assert ready.message == (
        "annotation tunegate.dev/required-gates of namespace default is malformed: "
        f'"{wrong}" is not the name of an EvalGate; write the names separated by commas'
    )
    assert world.status().display.next == "fix: RequiredGatesUnknown"
    annotate(world, "policy,golden")
    world.advance(60)
    assert len(world.active_jobs()) == 1


def test_job_waits_until_the_operator_may_read_the_namespace() -> None:
    world = world_of("policy")
    world.cluster.fail_to_read("Namespace", ForbiddenError('namespaces "default" is forbidden'))
    world.apply(make_job().with_spec(startTimeoutSeconds=600).obj())
    world.settle()
    assert world.condition("Ready").reason == Reason.REQUIRED_GATES_UNKNOWN
    assert 'namespaces "default" is forbidden' in world.status().message
    world.cluster.fail_to_read("Namespace", None)
    world.advance(60)
    failure = world.status().failure
    assert failure is not None
    assert failure.reason == Reason.REQUIRED_GATES_MISSING


def test_unreadable_namespace_fails_the_job_after_the_start_timeout() -> None:
    world = world_of("policy")
    world.cluster.fail_to_read("Namespace", ForbiddenError("forbidden"))
    world.apply(make_job().with_spec(startTimeoutSeconds=120, gates=BOTH).obj())
    world.settle()
    for _ in range(3):
        world.advance(60)
    failure = world.status().failure
    assert failure is not None
    assert failure.reason == Reason.START_TIMEOUT
    assert "waited 120 s: RequiredGatesUnknown" in failure.message
    assert world.jobs() == []


def test_job_starts_once_an_unavailable_api_server_answers() -> None:
    world = world_of("policy")
    world.cluster.fail_to_read("Namespace", ClusterError("no answer"))
    world.apply(make_job().with_spec(gates=BOTH).obj())
    world.settle()
    assert world.jobs() == []
    world.cluster.fail_to_read("Namespace", None)
    world.advance(60)
    assert len(world.active_jobs()) == 1


def test_namespace_is_not_read_while_another_input_is_missing() -> None:
    world = World()
    world.cluster.fail_to_read("Namespace", ForbiddenError("forbidden"))
    world.apply(make_job().obj())
    world.settle()
    assert world.condition("Ready").reason == Reason.GATE_NOT_FOUND


def test_later_annotation_does_not_affect_a_job_that_has_started() -> None:
    world = world_of("golden")
    world.apply(make_job().with_publish().obj())
    world.until_job("train")
    annotate(world, "golden,policy")
    assert world.run().phase is Phase.SUCCEEDED
    assert world.status().published


def test_request_lists_which_gates_are_required() -> None:
    world = world_of("policy")
    world.apply(make_job().with_spec(gates=BOTH).obj())
    world.settle()
    assert required_in(request_of(world)) == {"golden": False, "policy": True}


def required_in(request: Object) -> dict[str, bool]:
    """Return whether each gate is required, by its name."""
    return {gate["name"]: gate["required"] for gate in json.loads(request["data"]["request.json"])["gates"]}


def test_namespace_is_not_read_while_the_gate_is_unready() -> None:
    """Each read is a request, and hundreds of jobs may wait for one gate."""
    world = World()
    changed = make_config_map("cases", golden__jsonl=golden_text(3))
    world.cluster.fail_to_read("Namespace", ForbiddenError("forbidden"))
    world.apply(make_config_map("rows", train__jsonl="{}"), changed, make_gate().obj(), make_job().obj())
    world.settle()
    assert world.condition("Ready").reason == Reason.GATE_NOT_READY
    found = world.cluster.as_user.get(Key.of(changed))
    assert found is not None
    world.cluster.fail_to_read("Namespace", None)
    world.cluster.as_user.replace(found | {"data": {"golden.jsonl": golden_text()}})
    world.settle()
    assert len(world.active_jobs()) == 1
