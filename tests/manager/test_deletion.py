"""The files of a deleted job are removed, with a real API server, garbage collector and Job controller, and
with the rights and policies of the chart."""

import itertools
from typing import Any

import pytest
from kubernetes import client

from support.api_server import OPERATOR
from support.builders import golden_text, make_config_map, make_gate, make_job
from support.fake_kubelet import Address, FakePod
from support.helm import NAMESPACE
from support.impersonation import acting_as
from support.operator_command import SERVICE, operator
from support.paused_kubelet import PausedKubelet
from support.refusals import refusal
from support.team import GROUP, Team
from support.waiting import eventually
from tunegate_api.contract.process import Role
from tunegate_operator.names import FILES_FINALIZER

pytestmark = pytest.mark.cluster

DELETE, KEEP = ({"persistentVolumeClaim": "tuning", "onDelete": value} for value in ("Delete", "Keep"))


class HeldKubelet(PausedKubelet):
    """A kubelet whose training pods wait until they are released."""

    def __init__(self, api: client.ApiClient, address: Address) -> None:
        super().__init__(api, address, Role.TRAIN)
        self.unschedulable = ""
        """Why cleanup pods cannot be scheduled; empty if they can."""

    def run_pod(self, pod: FakePod) -> None:
        if pod.role is Role.CLEANUP and self.unschedulable:
            pod.hold(self.unschedulable)
        else:
            super().run_pod(pod)

    def roles(self) -> list[Role]:
        """Return the roles of all pods, in the order in which they were seen."""
        return [pod.role for pod in self.seen.values()]


@pytest.fixture
def kubelet(api: client.ApiClient) -> HeldKubelet:
    return HeldKubelet(api, Address(api, NAMESPACE, SERVICE))


def apply(team: Team, storage: dict[str, str], name: str = "orders") -> dict[str, Any]:
    """Apply a job with everything that it needs. Returns the job."""
    team.apply(
        make_config_map("rows", train__jsonl="{}"),
        make_config_map("cases", golden__jsonl=golden_text()),
        make_gate().obj(),
        make_job(name).with_spec(storage=storage).obj(),
    )
    return team.job(name)


def delete(team: Team, propagation: str) -> None:
    client.CustomObjectsApi(team.api).delete_namespaced_custom_object(
        *GROUP, team.namespace, "finetunejobs", "orders", propagation_policy=propagation
    )


def is_gone(team: Team) -> bool:
    found = client.CustomObjectsApi(team.api).list_namespaced_custom_object(
        *GROUP, team.namespace, "finetunejobs"
    )
    return not found["items"]


def children(team: Team) -> list[str]:
    """Return the names of the job's children, but not those of its gate."""
    return [name for name in team.children() if name.startswith("orders-")]


def warnings(team: Team) -> list[str]:
    events = client.CoreV1Api(team.api).list_namespaced_event(team.namespace).items
    return [event.message for event in events if event.reason == "CleanupFailed"]


@pytest.mark.parametrize("propagation", ["Background", "Foreground"])
@pytest.mark.parametrize("is_training", [False, True], ids=["ended", "training"])
def test_deleted_job_disappears_after_its_files_are_removed(
    server, team, kubelet, tmp_path, propagation, is_training
):
    with operator(server, tmp_path / "operator.log"), kubelet.running():
        uid = apply(team, DELETE)["metadata"]["uid"]
        if is_training:
            eventually(lambda: Role.TRAIN in kubelet.roles(), seconds=60, what="training runs")
        else:
            kubelet.release()
            team.wait_for("Succeeded", "Failed")
        assert team.job()["metadata"]["finalizers"] == [FILES_FINALIZER]
        before = kubelet.roles()
        delete(team, propagation)
        eventually(lambda: is_gone(team), seconds=60, what="the job has disappeared")
        kubelet.release()
        assert kubelet.roles() == [*before, Role.CLEANUP]
        (cleanup,) = (pod for pod in kubelet.seen.values() if pod.role is Role.CLEANUP)
        assert cleanup.args == ["cleanup", "--attempt", "2", "--deleted-job", uid]
        eventually(lambda: not children(team), seconds=60, what="all children are deleted")
    assert warnings(team) == []


def test_job_whose_claim_is_missing_can_be_deleted(server, team, kubelet, tmp_path):
    kubelet.release()
    kubelet.unschedulable = 'persistentvolumeclaim "tuning" not found'
    with operator(server, tmp_path / "operator.log"), kubelet.running():
        uid = apply(team, DELETE)["metadata"]["uid"]
        team.wait_for("Succeeded", "Failed")
        delete(team, "Background")
        eventually(lambda: is_gone(team), seconds=60, what="the job has disappeared")
        eventually(lambda: not children(team), seconds=60, what="all children are deleted")
    where = f"files remain in the folder tunegate/jobs/{uid} on the claim tuning"
    assert warnings(team) == [f"{where}: cleanup: {kubelet.unschedulable}"]


def test_namespace_with_such_a_job_can_be_deleted(server, team, kubelet, tmp_path):
    core = client.CoreV1Api(team.api)
    kubelet.release()
    with operator(server, tmp_path / "operator.log"), kubelet.running():
        apply(team, DELETE)
        team.wait_for("Succeeded", "Failed")
        core.delete_namespace(team.namespace)
        eventually(
            lambda: team.namespace not in [n.metadata.name for n in core.list_namespace().items],
            seconds=60,
            what="the namespace is deleted",
            pause=0.5,
        )
    assert Role.CLEANUP not in kubelet.roles()


def test_operator_changes_only_its_own_finalizer(team):
    custom = client.CustomObjectsApi(acting_as(team.api, OPERATOR))
    apply(team, DELETE)
    team.apply(make_job("kept").with_spec(storage=KEEP).obj())

    def patch(name: str = "orders", **body: Any) -> str:
        path = (*GROUP, team.namespace, "finetunejobs", name, body)
        return refusal(lambda: custom.patch_namespaced_custom_object(*path))

    theirs = [FILES_FINALIZER, "example.com/archive"]
    values = map(str, itertools.count())  # the policy allows a patch that changes nothing
    eventually(
        lambda: patch(metadata={"labels": {"a": next(values)}}), what="the policy is in force", pause=0.2
    )
    for change in (
        {"spec": {"suspend": True}},
        {"metadata": {"labels": {"team": "b"}}},
        {"metadata": {"annotations": {"team": "b"}}},
        {"metadata": {"finalizers": theirs}},
    ):
        assert "may change only the status and the finalizer" in patch(**change), change
    assert patch(metadata={"annotations": {"tunegate.dev/approve": "{}"}}), (
        "another policy may refuse it first"
    )
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "1"}
    assert patch(metadata={"ownerReferences": [owner]}), "this server has a plugin that refuses it first"
    ours = {"finalizers": [FILES_FINALIZER]}
    assert "only to a FineTuneJob with storage.onDelete Delete" in patch("kept", metadata=ours)
    assert patch(metadata=ours) == ""
    admin = client.CustomObjectsApi(team.api)
    admin.patch_namespaced_custom_object(
        *GROUP, team.namespace, "finetunejobs", "orders", {"metadata": {"finalizers": theirs}}
    )
    assert "may change only" in patch(metadata={"finalizers": None})
    assert patch(metadata={"finalizers": theirs[1:]}) == ""
    assert team.job()["metadata"]["finalizers"] == theirs[1:]
    admin.patch_namespaced_custom_object(
        *GROUP, team.namespace, "finetunejobs", "orders", {"metadata": {"finalizers": None}}
    )
