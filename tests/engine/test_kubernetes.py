"""Each error answer of a real API server is raised as the matching error class."""

import uuid
from collections.abc import Iterator

import pytest
from kubernetes import client

from support import manifests
from support.api_server import ApiServer
from support.waiting import eventually
from tunegate_operator.engine.clock import SystemClock
from tunegate_operator.engine.cluster import (
    ClusterError,
    ForbiddenError,
    InvalidObjectError,
    Key,
    Object,
    TerminatingError,
)
from tunegate_operator.engine.kubernetes import KubernetesCluster
from tunegate_operator.engine.objects import uid_of

pytestmark = pytest.mark.cluster
DENIED = f"denied-{uuid.uuid4().hex[:6]}"


@pytest.fixture
def cluster(server: ApiServer) -> Iterator[KubernetesCluster]:
    """A cluster with an admission policy that denies one ConfigMap."""
    policy = {
        "metadata": {"name": DENIED},
        "spec": {
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["configmaps"],
                    }
                ]
            },
            "validations": [{"expression": f"object.metadata.name != '{DENIED}'", "message": "not this one"}],
        },
    }
    binding = {
        "metadata": {"name": DENIED},
        "spec": {"policyName": DENIED, "validationActions": ["Deny"]},
    }
    with server.client() as api:
        admission = client.AdmissionregistrationV1Api(api)
        admission.create_validating_admission_policy(policy)
        admission.create_validating_admission_policy_binding(binding)
        yield KubernetesCluster(api, SystemClock())
        admission.delete_validating_admission_policy_binding(DENIED)
        admission.delete_validating_admission_policy(DENIED)


def config_map(name: str) -> Object:
    made = manifests.config_map(name, {"a": "1"})
    made["metadata"]["namespace"] = "default"
    return made


def test_denial_by_an_admission_policy_raises_forbidden(cluster: KubernetesCluster) -> None:
    found: list[ClusterError] = []

    def is_denied() -> bool:
        made = config_map(DENIED)
        try:
            made = cluster.create(made)
        except ClusterError as error:
            found.append(error)
            return True
        cluster.delete(Key.of(made), uid_of(made))
        return False

    eventually(is_denied, seconds=60, what="the policy takes effect")
    assert isinstance(found[-1], ForbiddenError), repr(found[-1])
    assert "not this one" in str(found[-1])


def test_create_in_a_terminating_namespace_raises_terminating(
    cluster: KubernetesCluster, server: ApiServer
) -> None:
    name = f"goes-away-{uuid.uuid4().hex[:6]}"
    metadata = {"name": name, "finalizers": ["test.tunegate.dev/stays-a-while"]}
    made = config_map("late")
    made["metadata"]["namespace"] = name
    with server.client() as api:
        namespaces = client.CoreV1Api(api)
        namespaces.create_namespace({"metadata": metadata})
        namespaces.delete_namespace(name)
        with pytest.raises(TerminatingError, match="because it is being terminated"):
            cluster.create(made)
        namespaces.patch_namespace(name, {"metadata": {"finalizers": None}})


def test_object_with_an_invalid_name_raises_invalid(cluster: KubernetesCluster) -> None:
    with pytest.raises(InvalidObjectError, match="RFC 1123"):
        cluster.create(config_map("No Name"))
