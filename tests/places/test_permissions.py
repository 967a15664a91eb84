"""The cluster roles that users need for the plugin's commands, as docs/install.md lists them.

Kubernetes aggregates the chart's roles to ``view`` and ``edit``. The tests' API server has no controller for
this, so a user is bound to the parts of these roles.
"""

import json
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from kubernetes import client, utils

from support.api_server import ApiServer
from support.builders import make_job, make_scores
from support.helm import Helm
from support.places import PLAN, STOP, Place
from tunegate_client.places import volume_file
from tunegate_client.places.client import ClientError
from tunegate_client.places.kube import KubernetesClient
from tunegate_operator.engine.cluster import Object
from tunegate_operator.names import DISCARD_ANNOTATION

pytestmark = pytest.mark.cluster
ROLES = {
    "view": ("system:aggregate-to-view", "tunegate-view"),
    "approve": ("tunegate-approve",),
    "edit": ("system:aggregate-to-view", "system:aggregate-to-edit", "tunegate-view", "tunegate-edit"),
}


@pytest.fixture(scope="module", autouse=True)
def chart_roles(server: ApiServer) -> None:
    """Create the chart's roles for users."""
    with server.client() as api:
        for (kind, name), obj in Helm().render().items():
            if kind == "ClusterRole" and name in (*ROLES["edit"], *ROLES["approve"]):
                with suppress(utils.FailToCreateError):  # other tests of the session may have created them
                    utils.create_from_dict(api, obj)


def user(server: ApiServer, place: Place, role: str, folder: Path) -> KubernetesClient:
    """Return a client with a kubeconfig whose user has a role in the namespace."""
    subject = {"kind": "ServiceAccount", "name": role, "namespace": place.namespace}
    with server.client(retries=False) as admin:
        core, rbac = client.CoreV1Api(admin), client.RbacAuthorizationV1Api(admin)
        core.create_namespaced_service_account(place.namespace, {"metadata": {"name": role}})
        for name in ROLES[role]:
            reference = {"kind": "ClusterRole", "apiGroup": "rbac.authorization.k8s.io", "name": name}
            binding = {"metadata": {"generateName": "user-"}, "roleRef": reference, "subjects": [subject]}
            rbac.create_namespaced_role_binding(place.namespace, binding)
        token = core.create_namespaced_service_account_token(role, place.namespace, {"spec": {}})
    config = yaml.safe_load(server.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token.status.token}
    kubeconfig = folder / role
    kubeconfig.write_text(yaml.safe_dump(config))
    return KubernetesClient.connect(kubeconfig=str(kubeconfig), namespace=place.namespace)


@pytest.fixture
def job(kubernetes: Place) -> Object:
    """A job that a gate stopped, and that has a pod and an Event."""
    job = kubernetes.create(make_job().obj())
    kubernetes.create_pod(job)
    kubernetes.cluster.record_event(job, "Normal", "Stopped", "a gate stopped it")
    return kubernetes.set_status(job, phase="Stopped", plan=PLAN, stop=STOP)


def test_user_with_the_role_view_can_read_but_change_nothing(
    server: ApiServer, kubernetes: Place, job: Object, tmp_path: Path
) -> None:
    viewer = user(server, kubernetes, "view", tmp_path)
    assert [one["metadata"]["name"] for one in viewer.list_objects("FineTuneJob")] == ["orders"]
    assert next(viewer.watch("FineTuneJob", "orders"))["status"]["phase"] == "Stopped"
    assert len(viewer.list_events(job)) == 1
    assert viewer.list_objects("EvalGate") == []
    assert viewer.read_request(job) is None
    (pod,) = viewer.list_pods(job)
    assert list(viewer.read_log(pod)) == [], "it is allowed, but no node has started the pod"
    for change in (
        lambda: viewer.decide("orders", DISCARD_ANNOTATION, "no"),
        lambda: viewer.set_suspended("orders", True),
        lambda: viewer.read_report(job),
        lambda: viewer.put_config_map(make_scores("scores", "5" * 64)),
    ):
        with pytest.raises(ClientError, match="forbidden"):
            change()


def test_user_with_the_role_edit_can_use_each_command(
    server: ApiServer, kubernetes: Place, job: Object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = user(server, kubernetes, "edit", tmp_path)
    editor.decide("orders", DISCARD_ANNOTATION, "no")
    assert editor.set_suspended("orders", True)["spec"]["suspend"] is True
    for reviewer in ("ana", "ben"):
        editor.put_config_map(make_scores("scores", "5" * 64, reviewer=reviewer))
    assert len(editor.read_score_maps("orders")) == 1
    monkeypatch.setattr(volume_file, "WAIT_SECONDS", 0.5)
    monkeypatch.setattr(volume_file, "NOTICE_SECONDS", 0.1)
    with pytest.raises(ClientError, match="has not read the report"):
        editor.read_report(job)


def test_user_with_only_the_approve_role_can_decide_verdicts(
    server: ApiServer, kubernetes: Place, job: Object, tmp_path: Path
) -> None:
    final = {"modelDigest": "a" * 64, "taskVerdict": "Passed", "verdict": "Passed", "verdictDigest": "b" * 64}
    kubernetes.set_status(job, phase="AwaitingApproval", plan=PLAN, final=final)
    approver = user(server, kubernetes, "approve", tmp_path)
    approver.decide_verdict("orders", "approve", "fine")
    annotation = approver.get("FineTuneJob", "orders")["metadata"]["annotations"]["tunegate.dev/approve"]
    assert json.loads(annotation) == {
        "verdict": "b" * 64,
        "by": f"system:serviceaccount:{kubernetes.namespace}:approve",
        "reason": "fine",
    }
