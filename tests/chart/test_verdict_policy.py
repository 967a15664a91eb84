"""The chart's policy on a real API server: only people with the right decide about a verdict, in their own
name."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client import ApiException

from support.api_server import ApiServer, api_server
from support.builders import make_job
from support.operator_command import grant_rights
from support.team import GROUP
from support.waiting import eventually
from tunegate_operator.decisions import verdict_decision

pytestmark = pytest.mark.cluster

DIGEST = "d" * 64
ROLES = {"ana": "tunegate-approve", "otto": "tunegate-override", "eve": "tunegate-edit"}
"""The role that each user has in the namespace ``default``."""
QUOTED = 'CORP\\o"brian'
"""The name of a user with the role tunegate-approve, with characters that JSON escapes."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    started = api_server(tmp_path_factory.mktemp("api-server"), strict_owners=False)
    with started as server, server.client() as api:
        grant_rights(api)
        rbac = client.RbacAuthorizationV1Api(api)
        for user, role in [*ROLES.items(), (QUOTED, "tunegate-approve")]:
            binding = {
                "metadata": {"generateName": "user-"},
                "roleRef": {"kind": "ClusterRole", "apiGroup": "rbac.authorization.k8s.io", "name": role},
                "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}],
            }
            rbac.create_namespaced_role_binding("default", binding)
        custom = client.CustomObjectsApi(api)
        for name in ("orders", "probe"):
            custom.create_namespaced_custom_object(
                *GROUP, "default", "finetunejobs", make_job(name).with_publish().obj()
            )
        eventually(
            lambda: refusal(server, "eve", name="probe", approve=f'"by": "eve" {next(counter)}'),
            what="the policy is in force",
            pause=0.2,
        )
        yield server


counter = iter(range(10_000))


@contextmanager
def as_user(server: ApiServer, user: str) -> Iterator[client.CustomObjectsApi]:
    with server.client(retries=False) as api:
        api.set_default_header("Impersonate-User", user)
        api.set_default_header("Impersonate-Group", "system:authenticated")
        yield client.CustomObjectsApi(api)


def refusal(server: ApiServer, user: str, name: str = "orders", **decisions: str | None) -> str:
    """Set annotations as a user. Return the API server's message if it forbids this; otherwise empty."""
    annotations = {f"tunegate.dev/{action}": text for action, text in decisions.items()}
    body = {"metadata": {"annotations": annotations}}
    with as_user(server, user) as api:
        try:
            api.patch_namespaced_custom_object(*GROUP, "default", "finetunejobs", name, body)
        except ApiException as error:
            if error.status != 403:
                raise
            return str(json.loads(error.body)["message"])
    return ""


def decision(by: str, reason: str = "ok") -> str:
    return verdict_decision(DIGEST, by, reason)


@pytest.fixture(autouse=True)
def no_decision(server: ApiServer) -> Iterator[None]:
    yield
    assert not refusal(server, "eve", approve=None, override=None, reject=None), "removing needs no right"


@pytest.mark.parametrize(
    ("user", "allowed"),
    [("ana", {"approve", "reject"}), ("otto", {"override", "reject"}), ("eve", set())],
)
def test_each_right_allows_only_its_own_decisions(server: ApiServer, user: str, allowed: set[str]) -> None:
    for action in ("approve", "override", "reject"):
        answer = refusal(server, user, **{action: decision(user)})
        assert (answer == "") is (action in allowed), answer
        if answer:
            assert f"{user} may not {action} the verdict of this FineTuneJob" in answer
        refusal(server, user, **{action: None})


def test_decision_in_the_name_of_another_person_is_refused(server: ApiServer) -> None:
    for by in ("otto", "ana2", "an", "", "Ana"):
        answer = refusal(server, "ana", approve=decision(by))
        assert 'a decision about a verdict must name you: "by": "ana"' in answer
    hidden = decision("otto", reason='"by": "ana"')
    assert "must name you" in refusal(server, "ana", approve=hidden)


def test_user_name_with_quotes_and_backslashes_can_approve(server: ApiServer) -> None:
    assert refusal(server, QUOTED, approve=decision(QUOTED)) == ""
    assert "must name you" in refusal(server, QUOTED, reject=decision("brian"))


def test_existing_decision_is_not_checked_when_something_else_changes(server: ApiServer) -> None:
    assert refusal(server, "ana", approve=decision("ana")) == ""
    assert refusal(server, "eve", note="x", approve=decision("ana")) == ""
    assert "eve may not approve" in refusal(server, "eve", approve=decision("ana", reason="other"))
    assert "eve may not approve" in refusal(server, "eve", approve=decision("eve"))
    assert refusal(server, "ana", reject=decision("ana")) == ""
    assert refusal(server, "ana", approve=decision("ana", reason="changed my mind"), reject=None) == ""


def test_job_cannot_be_created_with_a_decision(server: ApiServer) -> None:
    job: dict[str, Any] = make_job("early").obj()
    job["metadata"]["annotations"] = {"tunegate.dev/approve": decision("kubernetes-admin")}
    with server.client(retries=False) as api, pytest.raises(ApiException) as refused:
        client.CustomObjectsApi(api).create_namespaced_custom_object(*GROUP, "default", "finetunejobs", job)
    assert refused.value.status == 403
    assert "cannot be created with a decision" in refused.value.body


def test_decision_is_not_set_through_the_status(server: ApiServer) -> None:
    body = {"metadata": {"annotations": {"tunegate.dev/approve": decision("x")}}, "status": {"message": "a"}}
    with server.client(retries=False) as api:
        changed = client.CustomObjectsApi(api).patch_namespaced_custom_object_status(
            *GROUP, "default", "finetunejobs", "orders", body
        )
    assert changed["status"]["message"] == "a"
    assert "tunegate.dev/approve" not in changed["metadata"].get("annotations", {})
