"""The chart's policy on a real API server: only people with the right change the pinned version of a gate."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client import ApiException

from support.api_server import ApiServer, api_server
from support.builders import make_gate
from support.operator_command import grant_rights
from support.team import GROUP
from support.waiting import eventually

pytestmark = pytest.mark.cluster

ROLES = {"gwen": ["tunegate-gate-edit"], "ana": ["tunegate-gate-edit", "tunegate-approve"]}
NONE: list[dict[str, Any]] = [{"type": "BaseModel"}]
FIRST, SECOND = (
    [
        *NONE,
        {"type": "Version", "version": {"uri": f"pvc://models/orders/v{n}", "digest": f"{n}" * 64}},
    ]
    for n in (1, 2)
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    started = api_server(tmp_path_factory.mktemp("api-server"), strict_owners=False)
    with started as server, server.client() as api:
        grant_rights(api)
        for user, roles in ROLES.items():
            for role in roles:
                client.RbacAuthorizationV1Api(api).create_namespaced_role_binding(
                    "default",
                    {
                        "metadata": {"generateName": "user-"},
                        "roleRef": {
                            "kind": "ClusterRole",
                            "apiGroup": "rbac.authorization.k8s.io",
                            "name": role,
                        },
                        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}],
                    },
                )
        for name, entries in (("pinned", FIRST), ("probe", FIRST), ("free", NONE)):
            gate = make_gate(name).with_spec(compareWith=entries).obj()
            client.CustomObjectsApi(api).create_namespaced_custom_object(*GROUP, "default", "evalgates", gate)
        eventually(
            lambda: (
                refusal(server, "gwen", "probe", compareWith=SECOND)
                or refusal(server, "ana", "probe", compareWith=FIRST)
            ),
            what="the policy is in force",
            pause=0.2,
        )
        yield server


def refusal(server: ApiServer, user: str, name: str, **spec: Any) -> str:
    """Change the spec of a gate as a user. Return the API server's message if it forbids this."""
    with server.client(retries=False) as api:
        api.set_default_header("Impersonate-User", user)
        api.set_default_header("Impersonate-Group", "system:authenticated")
        try:
            client.CustomObjectsApi(api).patch_namespaced_custom_object(
                *GROUP, "default", "evalgates", name, {"spec": spec}
            )
        except ApiException as error:
            if error.status != 403:
                raise
            return str(json.loads(error.body)["message"])
    return ""


@pytest.mark.parametrize("entries", [SECOND, NONE, None], ids=["changed", "removed", "list removed"])
def test_pinned_version_is_changed_only_with_the_right_to_approve(
    server: ApiServer, entries: list[dict[str, Any]] | None
) -> None:
    answer = refusal(server, "gwen", "pinned", compareWith=entries)
    assert "gwen may not change or remove the version in spec.compareWith of this EvalGate" in answer
    assert refusal(server, "ana", "pinned", compareWith=entries) == ""
    assert refusal(server, "ana", "pinned", compareWith=FIRST) == ""


def test_other_fields_and_first_version_need_no_approval_right(server: ApiServer) -> None:
    assert refusal(server, "gwen", "pinned", rules=[{"name": "all", "minPassRate": "70%"}]) == ""
    assert refusal(server, "gwen", "pinned", compareWith=FIRST) == ""
    assert refusal(server, "gwen", "free", compareWith=FIRST) == ""
    assert "may not change" in refusal(server, "gwen", "free", compareWith=SECOND)
