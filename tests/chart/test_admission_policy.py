"""The chart's policies on a real API server: the operator can write only its own objects."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from kubernetes import client
from kubernetes.config import new_client_from_config_dict

from support.api_server import CONTROLLERS, ApiServer, api_server
from support.builders import make_gate, make_job
from support.manifests import finetunejob
from support.operator_command import grant_rights
from support.refusals import refusal
from support.team import GROUP
from support.waiting import eventually
from tunegate_api.contract.process import Role
from tunegate_api.contract.request import Request
from tunegate_api.v1alpha2 import FineTuneJob
from tunegate_operator.children.job import PodSettings, ReportTo
from tunegate_operator.engine.clock import SystemClock
from tunegate_operator.engine.kubernetes import KubernetesCluster
from tunegate_operator.engine.owners import owner_reference
from tunegate_operator.finetunejob.build import child_job, nodes_service, request_config_map
from tunegate_operator.names import MANAGED_LABELS, Step

pytestmark = pytest.mark.cluster

Object = dict[str, Any]
PODS = PodSettings("trainer:test", ReportTo("https://tunegate.default:443", "PEM"))
OWNER = {"apiVersion": "tunegate.dev/v1alpha2", "kind": "FineTuneJob", "name": "a", "uid": "1"} | {
    "controller": True
}
COREFILE = {"metadata": {"name": "coredns"}, "data": {"Corefile": "."}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    started = api_server(
        tmp_path_factory.mktemp("api-server"),
        controllers=f"{CONTROLLERS},validatingadmissionpolicy-status-controller",
        strict_owners=False,
    )
    with started as server, server.client() as api:
        grant_rights(api)
        client.CoreV1Api(api).create_namespaced_config_map("kube-system", COREFILE)
        yield server


@pytest.fixture(scope="module")
def admin(server: ApiServer) -> Iterator[client.ApiClient]:
    with server.client() as api:
        yield api


@pytest.fixture(scope="module")
def operator(server: ApiServer, admin: client.ApiClient) -> Iterator[client.ApiClient]:
    """A client with the operator's ServiceAccount. The policies are already in force."""
    with new_client_from_config_dict(yaml.safe_load(server.operator_kubeconfig.read_text())) as api:
        core, batch = client.CoreV1Api(api), client.BatchV1Api(api)
        bare = {"metadata": {"generateName": "probe-"}}
        of_us = bare["metadata"] | {"labels": MANAGED_LABELS, "ownerReferences": [OWNER]}
        pods = {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}}
        probe = {"metadata": of_us, "spec": {"suspend": True, "template": pods}}
        record = {"metadata": {"generateName": "probe-", "ownerReferences": [OWNER]}}
        for act in (
            lambda: core.create_namespaced_config_map("default", bare),
            lambda: batch.create_namespaced_job("default", probe),
            lambda: client.CoreV1Api(admin).create_namespaced_config_map("default", record),
        ):
            eventually(lambda act=act: refusal(act), what="the policies are in force", pause=0.2)
        yield api


@pytest.fixture(scope="module")
def job(admin: client.ApiClient) -> FineTuneJob:
    custom = client.CustomObjectsApi(admin)
    made = custom.create_namespaced_custom_object(
        *GROUP, "default", "finetunejobs", make_job().with_publish().obj()
    )
    return FineTuneJob.model_validate(made)


@pytest.fixture
def request_of(job: FineTuneJob) -> Request:
    meta = job.metadata
    return Request(name=meta.name, namespace=meta.namespace, uid=meta.uid, spec=job.spec, gates=[])


def own(job: FineTuneJob, name: str, **metadata: Any) -> Object:
    """Return a ConfigMap as the operator creates it."""
    owner = {"apiVersion": "tunegate.dev/v1alpha2", "kind": "FineTuneJob", "metadata": job.metadata.to_wire()}
    return {
        "metadata": {"name": name, "labels": MANAGED_LABELS, "ownerReferences": [owner_reference(owner)]}
        | metadata,
        "data": {"a": "1"},
    }


def test_policies_have_no_type_warnings(admin: client.ApiClient) -> None:
    registered = client.AdmissionregistrationV1Api(admin)

    def checked() -> list[Any]:
        ours = registered.list_validating_admission_policy(label_selector="app.kubernetes.io/name=tunegate")
        statuses = [policy.status for policy in ours.items]
        assert len(statuses) == 12
        assert all(status and status.type_checking for status in statuses)
        return statuses

    for status in eventually(checked, what="the policies are checked"):
        assert not status.type_checking.expression_warnings


def test_only_the_operator_writes_the_records_of_a_job(
    operator: client.ApiClient, admin: client.ApiClient, job: FineTuneJob
) -> None:
    core = client.CoreV1Api(admin)
    forged = "only the operator may write ConfigMaps and Services that a FineTuneJob or an EvalGate owns"
    assert forged in refusal(lambda: core.create_namespaced_config_map("default", own(job, "forged")))
    client.CoreV1Api(operator).create_namespaced_config_map("default", own(job, "record"))
    core.create_namespaced_config_map("default", {"metadata": {"name": "free"}, "data": {"a": "1"}})
    owners = own(job, "free")["metadata"]["ownerReferences"]
    for name, change in (
        ("record", {"data": {"a": "2"}}),
        ("record", {"binaryData": {"b": "eA=="}}),
        ("record", {"immutable": True}),
        ("record", {"metadata": {"ownerReferences": None}}),
        ("free", {"metadata": {"ownerReferences": owners}}),
    ):
        assert forged in refusal(
            lambda name=name, change=change: core.patch_namespaced_config_map(name, "default", change)
        )
    unlabelled = {"metadata": {"labels": dict.fromkeys(MANAGED_LABELS)}}
    assert "the labels managed-by, job and gate" in refusal(
        lambda: core.patch_namespaced_config_map("record", "default", unlabelled)
    )
    own_label = {"metadata": {"labels": {"team": "a"}}}
    assert not refusal(lambda: core.patch_namespaced_config_map("record", "default", own_label))
    assert "may not be deleted" in refusal(lambda: core.delete_namespaced_config_map("record", "default"))
    assert not refusal(lambda: core.patch_namespaced_config_map("free", "default", {"data": {"a": "3"}}))


def test_operator_cannot_change_or_adopt_a_foreign_config_map(
    operator: client.ApiClient, admin: client.ApiClient, job: FineTuneJob
) -> None:
    core = client.CoreV1Api(operator)
    changed = COREFILE | {"data": {"Corefile": "evil"}}
    adopted = own(job, "coredns") | {"data": {"Corefile": "evil"}}
    for body in (changed, adopted):
        answer = refusal(lambda body=body: core.replace_namespaced_config_map("coredns", "kube-system", body))
        assert "the operator may" in answer
    kept = client.CoreV1Api(admin).read_namespaced_config_map("coredns", "kube-system")
    assert kept.data == COREFILE["data"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"labels": {}}, "with the label"),
        ({"labels": {"app.kubernetes.io/managed-by": "Helm"}}, "with the label"),
        ({"ownerReferences": []}, "an EvalGate controls"),
        ({"ownerReferences.controller": False}, "an EvalGate controls"),
        ({"ownerReferences.kind": "Deployment"}, "an EvalGate controls"),
        ({"ownerReferences.apiVersion": "apps/v1"}, "an EvalGate controls"),
    ],
    ids=str,
)
def test_operator_cannot_create_an_object_without_label_or_owner(
    operator: client.ApiClient, job: FineTuneJob, change: dict[str, Any], reason: str
) -> None:
    body = own(job, "forged")
    for path, value in change.items():
        field, _, inner = path.partition(".")
        if inner:
            body["metadata"][field][0][inner] = value
        else:
            body["metadata"][field] = value
    core = client.CoreV1Api(operator)
    assert reason in refusal(lambda: core.create_namespaced_config_map("default", body))
    service = {"metadata": body["metadata"], "spec": {"clusterIP": "None"}}
    assert reason in refusal(lambda: core.create_namespaced_service("default", service))


def test_operator_can_write_its_config_maps_but_not_change_owners(
    operator: client.ApiClient, admin: client.ApiClient, job: FineTuneJob
) -> None:
    core = client.CoreV1Api(operator)
    assert not refusal(lambda: core.create_namespaced_config_map("default", own(job, "results")))
    again = own(job, "results") | {"data": {"a": "2"}}
    assert not refusal(lambda: core.replace_namespaced_config_map("results", "default", again))

    gate = client.CustomObjectsApi(admin).create_namespaced_custom_object(
        *GROUP, "default", "evalgates", make_gate().obj()
    )
    of_gate = own(job, "outcomes", ownerReferences=[owner_reference(gate)])
    assert not refusal(lambda: core.create_namespaced_config_map("default", of_gate))

    taken = own(job, "results", ownerReferences=[owner_reference(gate)])
    answer = refusal(lambda: core.replace_namespaced_config_map("results", "default", taken))
    assert "may not change the owner" in answer
    bare = {"metadata": {"name": "results"}}
    assert refusal(lambda: core.replace_namespaced_config_map("results", "default", bare))


@pytest.mark.parametrize("role", Role)
def test_operator_can_create_and_delete_child_jobs(
    operator: client.ApiClient, job: FineTuneJob, request_of: Request, role: Role
) -> None:
    batch = client.BatchV1Api(operator)
    stage = job.spec.stages[0].name if role is Role.TRAIN else None
    child = child_job(job, request_of, Step(role, stage), 1, pods=PODS)
    assert not refusal(lambda: batch.create_namespaced_job("default", child))
    assert not refusal(lambda: batch.delete_namespaced_job(child["metadata"]["name"], "default"))


VOLUMES: list[Object] = [
    {"name": "a", "configMap": {"name": "ca"}},
    {"name": "b", "secret": {"secretName": "keys"}},
    {"name": "c", "persistentVolumeClaim": {"claimName": "cache"}},
    {"name": "d", "emptyDir": {}},
    {"name": "e", "csi": {"driver": "secrets-store.csi.k8s.io", "readOnly": True}},
    {
        "name": "f",
        "ephemeral": {
            "volumeClaimTemplate": {
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
            }
        },
    },
]


@pytest.mark.parametrize("role", Role)
def test_operator_can_create_jobs_with_every_user_setting(
    operator: client.ApiClient, admin: client.ApiClient, role: Role
) -> None:
    manifest = finetunejob()
    manifest["metadata"] = {"generateName": "settings-", "namespace": "default"}
    manifest["spec"]["podTemplate"]["volumes"] += VOLUMES
    manifest["spec"]["resources"] = {"nodes": 2, "accelerator": "GPU", "gpu": {"count": 2}}
    made = client.CustomObjectsApi(admin).create_namespaced_custom_object(
        *GROUP, "default", "finetunejobs", manifest
    )
    job = FineTuneJob.model_validate(made)
    meta = job.metadata
    request = Request(name=meta.name, namespace=meta.namespace, uid=meta.uid, spec=job.spec, gates=[])
    stage = job.spec.stages[0].name if role is Role.TRAIN else None
    child = child_job(job, request, Step(role, stage), 1, pods=PODS)
    assert (child["spec"].get("completionMode") == "Indexed") is (role is Role.TRAIN)
    assert not refusal(lambda: client.BatchV1Api(operator).create_namespaced_job("default", child))


def test_operator_can_create_services_and_config_maps_with_requests(
    operator: client.ApiClient, job: FineTuneJob, request_of: Request
) -> None:
    core = client.CoreV1Api(operator)
    request = request_config_map(job, request_of)
    assert not refusal(lambda: core.create_namespaced_config_map("default", request))
    assert not refusal(lambda: core.create_namespaced_service("default", nodes_service(job)))


def test_operator_counts_its_own_events_and_changes_no_others(
    operator: client.ApiClient, admin: client.ApiClient, job: FineTuneJob
) -> None:
    regarding = {"apiVersion": f"{GROUP[0]}/{GROUP[1]}", "kind": "FineTuneJob"} | {
        "metadata": job.metadata.to_wire()
    }
    cluster = KubernetesCluster(operator, SystemClock(), instance="tunegate-0")
    for _ in range(2):
        cluster.record_event(regarding, "Warning", "ChildIgnored", "Job stranger is ignored")
    (event,) = cluster.list_events("default", job.metadata.uid)
    assert (event["count"], event["reportingComponent"]) == (2, "tunegate")
    assert event["reportingInstance"] == "tunegate-0"

    body = {"metadata": {"name": "of-the-kubelet"}, "involvedObject": event["involvedObject"]}
    foreign = body | {"reason": "Failed", "source": {"component": "kubelet"}, "count": 1}
    client.CoreV1Api(admin).create_namespaced_event("default", foreign)
    core = client.CoreV1Api(operator)

    def hide() -> str:
        return refusal(
            lambda: core.patch_namespaced_event("of-the-kubelet", "default", {"message": "all is well"})
        )

    assert "only Events that it reported" in eventually(hide, what="the policy is in force")


def test_operator_cannot_delete_a_foreign_job(
    operator: client.ApiClient, admin: client.ApiClient, job: FineTuneJob, request_of: Request
) -> None:
    foreign = child_job(job, request_of, Step(Role.DATA), 1, pods=PODS)
    foreign["metadata"] = {"name": "foreign"}
    del foreign["spec"]["template"]["metadata"]
    foreign["spec"]["suspend"] = True
    client.BatchV1Api(admin).create_namespaced_job("default", foreign)
    batch = client.BatchV1Api(operator)
    assert "the operator may" in refusal(lambda: batch.delete_namespaced_job("foreign", "default"))
    assert client.BatchV1Api(admin).read_namespaced_job("foreign", "default")


def api_token(pod: Object) -> None:
    pod["automountServiceAccountToken"] = True


def projected_api_token(pod: Object) -> None:
    token = {"serviceAccountToken": {"path": "token", "audience": "https://kubernetes.default.svc"}}
    pod["volumes"].append({"name": "api", "projected": {"sources": [token]}})


def projected_token_without_audience(pod: Object) -> None:
    token = {"serviceAccountToken": {"path": "token"}}
    pod["volumes"].append({"name": "api", "projected": {"sources": [token]}})


def host_path(pod: Object) -> None:
    pod["volumes"].append({"name": "host", "hostPath": {"path": "/"}})


def host_network(pod: Object) -> None:
    pod["hostNetwork"] = True


def host_processes(pod: Object) -> None:
    pod["hostPID"] = True


def host_ipc(pod: Object) -> None:
    pod["hostIPC"] = True


def root(pod: Object) -> None:
    pod["securityContext"]["runAsNonRoot"] = False


def root_in_a_container(pod: Object) -> None:
    pod["containers"][0]["securityContext"]["runAsNonRoot"] = False


def escalation(pod: Object) -> None:
    pod["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True


def capability(pod: Object) -> None:
    pod["containers"][0]["securityContext"]["capabilities"]["add"] = ["SYS_ADMIN"]


def default_capabilities(pod: Object) -> None:
    del pod["containers"][0]["securityContext"]["capabilities"]


def second_container(pod: Object) -> None:
    pod["containers"].append({"name": "more", "image": "busybox"})


def init_container(pod: Object) -> None:
    pod["initContainers"] = [copy.deepcopy(pod["containers"][0]) | {"name": "first"}]


def other_volume(type: str, **fields: Any) -> Callable[[Object], None]:
    def weaken(pod: Object) -> None:
        pod["volumes"].append({"name": "other", type: fields})

    weaken.__name__ = type
    return weaken


ISCSI = {"targetPortal": "10.0.0.1", "iqn": "iqn.2001-04.com.example:storage", "lun": 0}
API_FIELD = {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}


def host_port(pod: Object) -> None:
    pod["containers"][0]["ports"] = [{"containerPort": 80, "hostPort": 80}]


def no_seccomp_profile(pod: Object) -> None:
    del pod["securityContext"]["seccompProfile"]


def unconfined_seccomp(pod: Object) -> None:
    pod["securityContext"]["seccompProfile"] = {"type": "Unconfined"}


def unconfined_seccomp_in_a_container(pod: Object) -> None:
    pod["containers"][0]["securityContext"]["seccompProfile"] = {"type": "Unconfined"}


def unconfined_apparmor(pod: Object) -> None:
    pod["securityContext"]["appArmorProfile"] = {"type": "Unconfined"}


def unconfined_apparmor_in_a_container(pod: Object) -> None:
    pod["containers"][0]["securityContext"]["appArmorProfile"] = {"type": "Unconfined"}


def selinux_options(pod: Object) -> None:
    pod["securityContext"]["seLinuxOptions"] = {"type": "spc_t"}


def selinux_options_in_a_container(pod: Object) -> None:
    pod["containers"][0]["securityContext"]["seLinuxOptions"] = {"type": "spc_t"}


def sysctls(pod: Object) -> None:
    pod["securityContext"]["sysctls"] = [{"name": "kernel.shm_rmid_forced", "value": "1"}]


def shared_processes(pod: Object) -> None:
    pod["shareProcessNamespace"] = True


def node_name(pod: Object) -> None:
    pod["nodeName"] = "control-plane"


def system_priority(pod: Object) -> None:
    pod["priorityClassName"] = "system-node-critical"


def user_0(pod: Object) -> None:
    pod["securityContext"]["runAsUser"] = 0


def user_0_in_a_container(pod: Object) -> None:
    pod["containers"][0]["securityContext"]["runAsUser"] = 0


def unmasked_proc(pod: Object) -> None:
    pod["hostUsers"] = False
    pod["containers"][0]["securityContext"]["procMount"] = "Unmasked"


@pytest.mark.parametrize(
    "weaken",
    [
        api_token,
        projected_api_token,
        projected_token_without_audience,
        host_path,
        host_network,
        host_processes,
        host_ipc,
        root,
        root_in_a_container,
        escalation,
        capability,
        default_capabilities,
        second_container,
        init_container,
        other_volume("flexVolume", driver="example/lvm"),
        other_volume("nfs", server="10.0.0.1", path="/"),
        other_volume("iscsi", **ISCSI),
        other_volume("downwardAPI", **API_FIELD),
        host_port,
        no_seccomp_profile,
        unconfined_seccomp,
        unconfined_seccomp_in_a_container,
        unconfined_apparmor,
        unconfined_apparmor_in_a_container,
        selinux_options,
        selinux_options_in_a_container,
        sysctls,
        shared_processes,
        node_name,
        system_priority,
        user_0,
        user_0_in_a_container,
        unmasked_proc,
    ],
)
def test_operator_cannot_create_a_job_with_weakened_pod_security(
    operator: client.ApiClient, job: FineTuneJob, request_of: Request, weaken: Callable[[Object], None]
) -> None:
    child = copy.deepcopy(child_job(job, request_of, Step(Role.DATA), 2, pods=PODS))
    weaken(child["spec"]["template"]["spec"])
    batch = client.BatchV1Api(operator)
    assert "may create only Jobs" in refusal(lambda: batch.create_namespaced_job("default", child))


def test_operator_cannot_disable_apparmor_by_annotation(
    operator: client.ApiClient, job: FineTuneJob, request_of: Request
) -> None:
    child = copy.deepcopy(child_job(job, request_of, Step(Role.DATA), 2, pods=PODS))
    unconfined = {"container.apparmor.security.beta.kubernetes.io/trainer": "unconfined"}
    child["spec"]["template"]["metadata"]["annotations"] = unconfined
    batch = client.BatchV1Api(operator)
    assert "may create only Jobs" in refusal(lambda: batch.create_namespaced_job("default", child))
