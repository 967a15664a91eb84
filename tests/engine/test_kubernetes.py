"""What the real API server answers, as the error that says what to do."""

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
    InvalidError,
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
    """Of a server with a policy that denies one ConfigMap."""
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


def test_what_a_policy_denies_may_be_allowed_another_day(cluster: KubernetesCluster) -> None:
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

    eventually(is_denied, seconds=60, what="the policy holds")
    assert isinstance(found[-1], ForbiddenError), repr(found[-1])
    assert "not this one" in str(found[-1])


def test_a_namespace_that_is_being_deleted_takes_nothing_new(
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


def test_what_is_wrong_in_itself_is_invalid(cluster: KubernetesCluster) -> None:
    with pytest.raises(InvalidError, match="RFC 1123"):
        cluster.create(config_map("No Name"))
