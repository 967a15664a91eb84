"""The chart's roles and policy on a real API server: authors of jobs cannot loosen the gates that are
required of them."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client

from support.api_server import ApiServer, api_server
from support.builders import make_gate, make_job
from support.operator_command import grant_rights
from support.refusals import refusal
from support.team import GROUP
from support.waiting import eventually

pytestmark = pytest.mark.cluster

Object = dict[str, Any]
LACKS = "spec.gates lacks gates that are required of every job: "
NAMED = ["privacy", "policy"]
_namespaces = (f"team-{n}" for n in itertools.count())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server with the chart. The cluster requires the gate privacy of every job."""
    with api_server(tmp_path_factory.mktemp("api-server")) as server:
        with server.client() as api:
            grant_rights(api, "requiredGates={privacy}")
            probe = User(api, "default")
            eventually(lambda: probe.create_job("probe"), what="the policy is in force", pause=0.2)
        yield server


class User:
    """A user of a namespace. Methods that change something return why the API server forbids it; empty if it
    does not."""

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self.api = api
        self.namespace = namespace
        self._custom = client.CustomObjectsApi(api)

    def create_job(self, *gates: str) -> str:
        job = make_job().with_spec(gates=[{"name": gate} for gate in gates]).obj()
        job["metadata"] = {"generateName": "job-"}
        return self._try("create_namespaced", "finetunejobs", job)

    def create_gate(self, name: str = "privacy") -> str:
        gate = make_gate(name).obj()
        gate["metadata"].pop("namespace")
        return self._try("create_namespaced", "evalgates", gate)

    def patch(self, plural: str, name: str, patch: Object) -> str:
        return self._try("patch_namespaced", plural, name, patch)

    def delete(self, plural: str, name: str) -> str:
        return self._try("delete_namespaced", plural, name)

    def delete_all(self, plural: str) -> str:
        return self._try("delete_collection_namespaced", plural)

    def names(self, plural: str) -> list[str]:
        listed = self._custom.list_namespaced_custom_object(*GROUP, self.namespace, plural)
        return [one["metadata"]["name"] for one in listed["items"]]

    def annotate(self, required_gates: str | None) -> str:
        """Change which gates the namespace requires."""
        annotations = {"tunegate.dev/required-gates": required_gates}
        patch = {"metadata": {"annotations": annotations}}
        return refusal(lambda: client.CoreV1Api(self.api).patch_namespace(self.namespace, patch))

    def _try(self, verb: str, plural: str, *arguments: Any) -> str:
        act = getattr(self._custom, f"{verb}_custom_object")
        return refusal(lambda: act(*GROUP, self.namespace, plural, *arguments))


@pytest.fixture
def admin(server: ApiServer) -> Iterator[User]:
    """The administrator, in a namespace that only this test uses."""
    with server.client() as api:
        name = next(_namespaces)
        client.CoreV1Api(api).create_namespace({"metadata": {"name": name}})
        yield User(api, name)


@pytest.fixture
def author(server: ApiServer, admin: User) -> Iterator[User]:
    """A user who may write FineTuneJobs."""
    yield from _with_role(server, admin, "tunegate-edit")


@pytest.fixture
def gate_author(server: ApiServer, admin: User) -> Iterator[User]:
    """A user who may write EvalGates."""
    yield from _with_role(server, admin, "tunegate-gate-edit")


def _with_role(server: ApiServer, admin: User, role: str) -> Iterator[User]:
    subject = {"kind": "ServiceAccount", "name": role, "namespace": admin.namespace}
    reference = {"kind": "ClusterRole", "apiGroup": "rbac.authorization.k8s.io", "name": role}
    binding = {"metadata": {"name": role}, "roleRef": reference, "subjects": [subject]}
    client.RbacAuthorizationV1Api(admin.api).create_namespaced_role_binding(admin.namespace, binding)
    with server.client() as api:
        api.set_default_header("Impersonate-User", f"system:serviceaccount:{admin.namespace}:{role}")
        yield User(api, admin.namespace)


def test_author_of_jobs_cannot_write_gates(admin: User, author: User) -> None:
    assert admin.create_gate() == ""
    weaker = {"spec": {"compareWith": []}}
    for refused in (
        author.create_gate("easy"),
        author.patch("evalgates", "privacy", weaker),
        author.patch("evalgates", "privacy", {"spec": {"enforcement": "DryRun"}}),
        author.delete("evalgates", "privacy"),
        author.delete_all("evalgates"),
    ):
        assert "cannot" in refused, refused
    assert author.names("evalgates") == ["privacy"]


def test_author_of_jobs_can_create_change_and_delete_jobs(author: User) -> None:
    assert author.create_job("privacy") == ""
    (name,) = author.names("finetunejobs")
    assert author.patch("finetunejobs", name, {"spec": {"suspend": True}}) == ""
    assert author.delete("finetunejobs", name) == ""


def test_author_of_jobs_cannot_change_which_gates_are_required(author: User) -> None:
    assert "cannot patch" in author.annotate("")
    assert author.create_job("easy").endswith(
        f"{LACKS}privacy (by the cluster). Add {{name: privacy}} to spec.gates."
    )


def test_author_of_gates_can_write_gates_but_no_jobs(gate_author: User) -> None:
    assert gate_author.create_gate() == ""
    assert gate_author.patch("evalgates", "privacy", {"spec": {"approval": "Always"}}) == ""
    assert "cannot create" in gate_author.create_job("privacy")
    assert gate_author.delete("evalgates", "privacy") == ""


@pytest.mark.parametrize(
    ("annotation", "named", "missing", "add"),
    [
        (None, ["easy"], "privacy (by the cluster)", "{name: privacy}"),
        ("policy", ["privacy"], "policy (by the namespace)", "{name: policy}"),
        (" policy , privacy,", ["privacy"], "policy (by the namespace)", "{name: policy}"),
        (
            "policy,privacy",
            ["easy"],
            "privacy (by the cluster), policy (by the namespace)",
            "{name: privacy}, {name: policy}",
        ),
    ],
)
def test_job_without_a_required_gate_is_refused_with_its_name(
    admin: User, annotation: str | None, named: list[str], missing: str, add: str
) -> None:
    admin.annotate(annotation)
    expected = f"{LACKS}{missing}. Add {add} to spec.gates."
    eventually(lambda: admin.create_job(*named).endswith(expected), what=expected, pause=0.2)
    assert admin.create_job(*NAMED) == ""


@pytest.mark.parametrize("annotation", ["", " , ", " policy , privacy "])
def test_job_with_all_required_gates_is_accepted(admin: User, annotation: str) -> None:
    admin.annotate("never-there")
    eventually(lambda: admin.create_job(*NAMED), what="the annotation is in force", pause=0.2)
    admin.annotate(annotation)
    eventually(lambda: admin.create_job(*NAMED) == "", what="the job is accepted", pause=0.2)


@pytest.mark.parametrize(
    ("annotation", "wrong"), [("privacy policy", "privacy policy"), ("policy;x", "policy;x"), ("a,B", "B")]
)
def test_jobs_are_refused_while_the_annotation_is_malformed(admin: User, annotation: str, wrong: str) -> None:
    admin.annotate(annotation)
    expected = (
        f"annotation tunegate.dev/required-gates of namespace {admin.namespace} is malformed: "
        f'"{wrong}" is not the name of an EvalGate; write the names separated by commas'
    )
    eventually(lambda: admin.create_job(*NAMED).endswith(expected), what=expected, pause=0.2)


def test_job_that_is_older_than_a_requirement_can_be_changed(admin: User) -> None:
    assert admin.create_job("privacy") == ""
    (name,) = admin.names("finetunejobs")
    admin.annotate("policy")
    eventually(lambda: admin.create_job("privacy"), what="the annotation is in force", pause=0.2)
    assert admin.patch("finetunejobs", name, {"spec": {"suspend": True}}) == ""
    assert admin.patch("finetunejobs", name, {"metadata": {"annotations": {"a": "b"}}}) == ""
