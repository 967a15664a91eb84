"""A user with Kubernetes' role ``edit`` in the namespace of a team."""

from kubernetes import client

from support.child_attacks import User
from support.impersonation import acting_as
from support.team import Team

_RBAC = "rbac.authorization.k8s.io"


def make_editor(team: Team, *, dry_run: bool = False) -> User:
    """Return a user with Kubernetes' role ``edit``, who may also debug pods, in the team's namespace."""
    name = f"editor-of-{team.namespace}"
    roles = client.RbacAuthorizationV1Api(team.api)

    def bind(kind: str, role: str) -> None:
        binding = {
            "metadata": {"name": role},
            "roleRef": {"kind": kind, "apiGroup": _RBAC, "name": role},
            "subjects": [{"kind": "User", "apiGroup": _RBAC, "name": name}],
        }
        roles.create_namespaced_role_binding(team.namespace, binding)

    for role_of_edit in ("system:aggregate-to-edit", "system:aggregate-to-view"):
        bind("ClusterRole", role_of_edit)  # no controller of this cluster aggregates them
    debugger = {"apiGroups": [""], "resources": ["pods/ephemeralcontainers"], "verbs": ["patch"]}
    roles.create_namespaced_role(team.namespace, {"metadata": {"name": "debugger"}, "rules": [debugger]})
    bind("Role", "debugger")
    return User(acting_as(team.api, name), team.namespace, dry_run=dry_run)
