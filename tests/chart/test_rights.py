"""The operator's permissions are minimal and documented."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from kubernetes.config import new_client_from_config_dict

from support.api_server import api_server
from support.builders import make_gate
from support.helm import ROOT, Helm, Objects
from support.operator_command import grant_rights
from support.team import GROUP
from tunegate_api.contract.process import Role
from tunegate_operator.children.job import JobOwner, PodNeeds, PodSettings, build_job
from tunegate_operator.children.volumes import WHOLE, PodVolumes
from tunegate_operator.names import GATE_LABEL, Step

pytestmark = pytest.mark.cluster

Grant = tuple[str, str]
"""A resource and a verb."""
WRITES = ("create", "update", "patch", "delete", "deletecollection")


def grants(rules: Iterable[dict[str, Any]]) -> set[Grant]:
    return {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}


def bound(objects: Objects, kind: str) -> set[Grant]:
    """Return the permissions that the bindings of one kind give to the operator."""
    given: set[Grant] = set()
    for (found, _), binding in objects.items():
        if found == kind:
            assert [subject["name"] for subject in binding["subjects"]] == ["tunegate"]
            given |= grants(objects[binding["roleRef"]["kind"], binding["roleRef"]["name"]]["rules"])
    return given


def documented(heading: str) -> set[Grant]:
    """Return the permissions in the table below a heading of docs/install.md."""
    text = (ROOT / "docs" / "install.md").read_text().partition(f"### {heading}\n")[2].partition("\n#")[0]
    rows = re.findall(r"^\| (`.+?) \| (.+?) \|", text, re.MULTILINE)
    return {
        (resource, verb)
        for resources, verbs in rows
        for resource in re.findall(r"`(.+?)`", resources)
        for verb in verbs.split(", ")
    }


def test_every_permission_is_documented(helm: Helm) -> None:
    objects = helm.render()
    assert documented("In the namespaces that it serves") | documented("In the whole cluster") == bound(
        objects, "ClusterRoleBinding"
    )
    assert documented("In its own namespace") == bound(objects, "RoleBinding")


def test_watch_namespaces_limit_permissions_to_these_namespaces(helm: Helm) -> None:
    objects = helm.render("watchNamespaces={team-a}")
    assert bound(objects, "ClusterRoleBinding") == documented("In the whole cluster")
    assert objects["RoleBinding", "tunegate"]["metadata"]["namespace"] == "team-a"
    assert documented("In the namespaces that it serves") == grants(objects["Role", "tunegate"]["rules"])


def test_cluster_wide_finalizer_permission_names_the_watched_namespaces(helm: Helm) -> None:
    objects = helm.render("watchNamespaces={team-a,team-b}")
    assert bound(objects, "ClusterRoleBinding") == {
        ("tokenreviews", "create"),
        ("finetunejobs", "get"),
        ("finetunejobs", "patch"),
        ("namespaces", "get"),
    }
    (named,) = (
        rule for rule in objects["ClusterRole", "tunegate-finalizers"]["rules"] if "resourceNames" in rule
    )
    assert (named["resources"], named["resourceNames"]) == (["namespaces"], ["team-a", "team-b"])
    policy = objects["ValidatingAdmissionPolicy", "tunegate-finalizers"]["spec"]
    assert 'request.namespace in ["team-a","team-b"]' in [v["expression"] for v in policy["validations"]]


def test_cluster_wide_finalizer_permission_needs_the_policies(helm: Helm) -> None:
    objects = helm.render("watchNamespaces={team-a}", "admissionPolicy.install=false")
    assert bound(objects, "ClusterRoleBinding") == {("tokenreviews", "create")}


def test_operator_has_no_access_to_secrets_logs_or_exec(helm: Helm) -> None:
    resources = {resource for resource, _ in bound(helm.render(), "ClusterRoleBinding")}
    assert not resources & {"secrets", "pods/log", "pods/exec", "*"}


def test_lease_secret_and_endpointslice_permissions_are_limited_by_name(helm: Helm) -> None:
    rules = helm.render()["Role", "tunegate-own"]["rules"]
    named = {
        resource: rule["resourceNames"]
        for rule in rules
        for resource in rule["resources"]
        if rule["verbs"] != ["create"]
    }
    assert named == {
        "leases": ["tunegate-operator"],
        "secrets": ["tunegate-report-ca"],
        "endpointslices": ["tunegate-reports"],
    }


def test_operator_can_create_a_job_owned_by_an_evalgate(tmp_path: Path) -> None:
    with api_server(tmp_path) as server, server.client() as admin:
        grant_rights(admin)
        gates = client.CustomObjectsApi(admin)
        made = gates.create_namespaced_custom_object(*GROUP, "default", "evalgates", make_gate().obj())
        meta = made["metadata"]
        owner = JobOwner("EvalGate", meta["name"], "default", meta["uid"], {GATE_LABEL: meta["name"]})
        volumes = PodVolumes()
        volumes.add_workspace("runs", {WHOLE: True})
        needs = PodNeeds(image="trainer:test", volumes=volumes)
        job = build_job(owner, Step(Role.GATE), 1, needs, PodSettings("trainer:test"))
        with new_client_from_config_dict(yaml.safe_load(server.operator_kubeconfig.read_text())) as operator:
            created = client.BatchV1Api(operator).create_namespaced_job("default", job)
        (reference,) = created.metadata.owner_references
        assert (reference.kind, reference.block_owner_deletion) == ("EvalGate", True)


def test_user_roles_do_not_grant_write_access_to_status(helm: Helm) -> None:
    objects = helm.render()
    edit = grants(objects["ClusterRole", "tunegate-edit"]["rules"])
    gate_edit = grants(objects["ClusterRole", "tunegate-gate-edit"]["rules"])
    assert ("finetunejobs", "create") in edit
    assert ("evalgates", "create") in gate_edit
    assert not [resource for resource, _ in edit | gate_edit if "/" in resource]


def test_edit_role_reads_gates_and_only_admin_writes_them(helm: Helm) -> None:
    given: dict[str, set[Grant]] = {"admin": set(), "edit": set()}
    for (kind, _), obj in helm.render().items():
        for role in given if kind == "ClusterRole" else ():
            if f"rbac.authorization.k8s.io/aggregate-to-{role}" in obj["metadata"]["labels"]:
                given[role] |= grants(obj["rules"])
    writes = {("evalgates", verb) for verb in WRITES}
    assert not given["edit"] & writes
    assert given["admin"] >= writes
    assert ("evalgates", "get") in given["edit"]


def test_operator_can_read_namespaces_but_not_list_them(helm: Helm) -> None:
    verbs = {
        verb for resource, verb in bound(helm.render(), "ClusterRoleBinding") if resource == "namespaces"
    }
    assert verbs == {"get"}


def test_required_gates_policy_is_limited_to_watched_namespaces(helm: Helm) -> None:
    policy = "ValidatingAdmissionPolicy", "tunegate-required-gates"
    assert "namespaceSelector" not in helm.render()[policy]["spec"]["matchConstraints"]
    limited = helm.render("watchNamespaces={team-a,team-b}")[policy]["spec"]["matchConstraints"]
    assert limited["namespaceSelector"]["matchExpressions"] == [
        {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["team-a", "team-b"]}
    ]


def test_admission_policies_apply_to_the_operator_service_account(helm: Helm) -> None:
    objects = helm.render()
    (subject,) = objects["ClusterRoleBinding", "tunegate"]["subjects"]
    pod = objects["Deployment", "tunegate"]["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == subject["name"]
    account = f"system:serviceaccount:{subject['namespace']}:{subject['name']}"
    for name in ("tunegate-owned", "tunegate-pods", "tunegate-events", "tunegate-finalizers"):
        (condition,) = objects["ValidatingAdmissionPolicy", name]["spec"]["matchConditions"]
        assert condition["expression"] == f"request.userInfo.username == '{account}'"
        binding = objects["ValidatingAdmissionPolicyBinding", name]["spec"]
        assert binding == {"policyName": name, "validationActions": ["Deny"]}


def test_cluster_wide_writes_are_restricted_by_the_admission_policy(helm: Helm) -> None:
    objects = helm.render()
    writes = {(resource, verb) for resource, verb in bound(objects, "ClusterRoleBinding") if verb in WRITES}
    policies = [
        objects["ValidatingAdmissionPolicy", f"tunegate-{name}"] for name in ("owned", "events", "finalizers")
    ]
    patched = ("events", "finetunejobs")
    covered = {
        (resource, "patch" if operation == "UPDATE" and resource in patched else operation.lower())
        for policy in policies
        for rule in policy["spec"]["matchConstraints"]["resourceRules"]
        for resource in rule["resources"]
        for operation in rule["operations"]
    }
    free = {("events", "create"), ("tokenreviews", "create")}
    assert {grant for grant in writes - covered if "/" not in grant[0]} == free


def test_admission_policies_are_not_installed_if_disabled(helm: Helm) -> None:
    kinds = {kind for kind, _ in helm.render("admissionPolicy.install=false")}
    assert not any(kind.startswith("ValidatingAdmissionPolicy") for kind in kinds)
