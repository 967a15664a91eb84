"""Users with Kubernetes' role ``edit`` attack a running job on a real API server with the chart's policies.
Each attack is refused with advice, and the job ends like an undisturbed one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kubernetes import client

from support.api_server import OPERATOR, ApiServer
from support.child_attacks import (
    EVIL,
    JOB_CHANGE_REFUSED,
    JOB_REFUSED,
    POD_REFUSED,
    RECORD_REFUSED,
    TOKEN_REFUSED,
    User,
    attack,
    unexpected,
)
from support.editor import make_editor
from support.fake_kubelet import Address
from support.helm import NAMESPACE
from support.impersonation import acting_as
from support.masking import differences, masked_status
from support.operator_command import SERVICE, operator
from support.paused_kubelet import PausedKubelet
from support.team import GROUP, Team
from support.waiting import eventually
from tunegate_api.contract.process import Role
from tunegate_operator.engine.owners import owner_reference

pytestmark = pytest.mark.cluster

KUEUE = "system:serviceaccount:kueue-system:kueue-controller-manager"
CONTROLLERS = "system:kube-controller-manager"
LABELS = {"app.kubernetes.io/managed-by": "tunegate", "tunegate.dev/job": "orders"}
LABELLED = {"metadata": {"labels": LABELS}, "spec": EVIL}


@pytest.fixture
def kubelet(api: client.ApiClient) -> PausedKubelet:
    return PausedKubelet(api, Address(api, NAMESPACE, SERVICE), Role.TRAIN)


@pytest.fixture
def editor(team: Team) -> User:
    """A user with Kubernetes' role ``edit``. The policies are in force."""
    user = make_editor(team, dry_run=True)
    probe = {"generateName": "probe-"}
    owner = {"apiVersion": "tunegate.dev/v1", "kind": "FineTuneJob", "name": "a", "uid": "1"}
    record = {"metadata": probe | {"ownerReferences": [owner]}}
    for advice, act in (
        (POD_REFUSED, lambda: user.create_pod(probe | {"labels": LABELS})),
        (JOB_REFUSED, lambda: user.create_job(probe, LABELLED)),
        (RECORD_REFUSED, lambda: user.create_record(record)),
        (TOKEN_REFUSED, lambda: user.request_token("tunegate.dev/probe")),
    ):
        eventually(lambda advice=advice, act=act: advice in act(), what=advice, pause=0.2)
    return User(user.api, team.namespace)


@contextmanager
def training(server: ApiServer, team: Team, kubelet: PausedKubelet, log: Path) -> Iterator[str]:
    """Run the job ``orders`` until its training pod runs. Yields the name of this pod."""
    with operator(server, log), kubelet.running():
        team.apply_all()
        core = client.CoreV1Api(team.api)

        def pod() -> str | None:
            pods = core.list_namespaced_pod(team.namespace, label_selector="tunegate.dev/role=train").items
            return next((p.metadata.name for p in pods if p.status.phase == "Running"), None)

        try:
            yield eventually(pod, seconds=40, what="the training pod runs")
        finally:
            kubelet.release()


@pytest.mark.parametrize("is_admin", [False, True], ids=["edit", "administrator"])
def test_attacks_are_refused_and_the_job_succeeds(server, team, kubelet, editor, tmp_path, is_admin):
    undisturbed = Team(team.api, f"{team.namespace}-undisturbed")
    user = User(team.api, team.namespace) if is_admin else editor
    with training(server, team, kubelet, tmp_path / "operator.log") as pod:
        undisturbed.apply_all()
        assert unexpected(attack(user, team.job(), pod)) == {}
        kubelet.release()
        for each in (team, undisturbed):
            each.wait_for("Succeeded", "Failed")
    assert team.phase() == "Succeeded", team.job()["status"]["message"]
    attacked, expected = masked_status(team.job()), masked_status(undisturbed.job())
    assert attacked == expected, differences(attacked, expected)
    assert kubelet.failures == []


@pytest.mark.usefixtures("editor")
def test_other_controllers_cannot_create_labelled_jobs_and_pods(team):
    """In some clusters, all controllers have one account. A CronJob or a ReplicaSet could use it."""
    controllers = User(acting_as(team.api, CONTROLLERS, "system:masters"), team.namespace)
    assert JOB_REFUSED in controllers.create_job({"name": "of-a-cron-job"}, LABELLED)
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a", "uid": "1", "controller": True}
    assert POD_REFUSED in controllers.create_pod({"name": "a", "labels": LABELS, "ownerReferences": [owner]})


def test_only_kueue_changes_the_template_of_a_suspended_job(server, team, kubelet, editor, tmp_path):
    kueue = User(acting_as(team.api, KUEUE, "system:masters"), team.namespace)
    as_operator = User(acting_as(team.api, OPERATOR), team.namespace)
    with training(server, team, kubelet, tmp_path / "operator.log") as pod:
        name = editor.core.read_namespaced_pod(pod, team.namespace).metadata.labels["job-name"]
        found = editor.batch.read_namespaced_job(name, team.namespace)
        job = team.api.sanitize_for_serialization(found)
        labels, spec = job["metadata"]["labels"], job["spec"]["template"]["spec"]
        metadata = {"name": "queued", "labels": labels, "ownerReferences": job["metadata"]["ownerReferences"]}
        template = {"metadata": {"labels": labels}, "spec": spec}
        assert as_operator.create_job(metadata, template, suspend=True) == ""
        placed = {"spec": {"template": {"spec": {"nodeSelector": {"gpu": "a100"}}}}}
        assert JOB_CHANGE_REFUSED in editor.patch_job("queued", placed)
        assert kueue.patch_job("queued", placed) == ""


def test_only_the_operator_writes_the_service_of_multi_pod_jobs(team, editor):
    """Whoever could change it could lead the pods of a distributed training to a pod of their own."""
    team.apply_all()
    owner = owner_reference(team.job())
    del owner["blockOwnerDeletion"]  # an admission plugin would refuse it first
    metadata = {"name": "nodes-a", "ownerReferences": [owner], "labels": LABELS}
    spec = {"clusterIP": "None", "selector": {"tunegate.dev/role": "train"}}
    service = {"metadata": metadata, "spec": spec}
    assert RECORD_REFUSED in editor.create_service(service)
    assert User(acting_as(team.api, OPERATOR), team.namespace).create_service(service) == ""
    assert RECORD_REFUSED in editor.patch_service("nodes-a", {"spec": {"selector": {"app": "evil"}}})
    assert RECORD_REFUSED in editor.patch_service("nodes-a", {"metadata": {"ownerReferences": None}})
    assert RECORD_REFUSED in editor.delete_service("nodes-a")
    assert editor.patch_service("nodes-a", {"metadata": {"annotations": {"a": "b"}}}) == ""


def test_objects_that_are_not_ours_are_not_affected(editor):
    assert editor.create_job({"name": "a"}, {"spec": EVIL}, suspend=True) == ""
    template = {"spec": {"nodeSelector": {"a": "b"}}}
    changed = {"metadata": {"labels": {"a": "b"}}, "spec": {"template": template}}
    assert editor.patch_job("a", changed) == ""
    assert editor.create_pod({"name": "a"}) == ""
    image = {"containers": [{"name": "trainer", "image": "other"}]}
    assert editor.patch_pod("a", {"metadata": {"labels": {"a": "b"}}, "spec": image}) == ""
    assert editor.debug("a") == ""
    assert editor.create_record({"metadata": {"name": "a"}, "data": {"a": "b"}}) == ""
    assert editor.delete_record("a") == ""
    assert editor.create_service({"metadata": {"name": "a"}, "spec": {"clusterIP": "None"}}) == ""
    assert editor.delete_service("a") == ""
    assert editor.request_token("https://kubernetes.default.svc") == ""


@pytest.mark.parametrize("propagation", ["Background", "Foreground", "Orphan"])
def test_job_can_be_deleted_with_its_records(server, team, kubelet, editor, tmp_path, propagation):
    core = client.CoreV1Api(team.api)
    with training(server, team, kubelet, tmp_path / "operator.log"):
        request = team.job()["status"]["request"]
        client.CustomObjectsApi(team.api).delete_namespaced_custom_object(
            *GROUP, team.namespace, "finetunejobs", "orders", propagation_policy=propagation
        )
        kubelet.release()
        if propagation == "Orphan":

            def is_orphaned() -> bool:
                return not core.read_namespaced_config_map(request, team.namespace).metadata.owner_references

            eventually(is_orphaned, seconds=60, what="the request has no owner")
            assert editor.delete_record(request) == ""
        else:
            eventually(lambda: not team.children(), seconds=60, what="all children are deleted")


@pytest.mark.usefixtures("editor")
def test_namespace_can_be_deleted_with_its_jobs(server, team, kubelet, tmp_path):
    """The job has ended, because the namespace controller waits for half the grace period of pods that run,
    and no kubelet ends them here."""
    core = client.CoreV1Api(team.api)
    with training(server, team, kubelet, tmp_path / "operator.log"):
        kubelet.release()
        team.wait_for("Succeeded")
        assert team.children()
        core.delete_namespace(team.namespace)

        def is_gone() -> bool:
            return team.namespace not in [one.metadata.name for one in core.list_namespace().items]

        eventually(is_gone, seconds=60, what="the namespace is deleted", pause=0.5)
