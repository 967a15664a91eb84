"""An attacker's Job in another namespace, which has the uid of a FineTuneJob in its owner reference.

The policies of the chart let only the operator create such a Job: the attacker uses the operator's account.
"""

from typing import Any

from kubernetes import client

from support.api_server import OPERATOR
from support.fake_kubelet import Address, FakePod
from support.impersonation import acting_as
from support.waiting import eventually
from tunegate_api import API_VERSION
from tunegate_operator.children.job import CONTAINER_SECURITY, POD_SECURITY

FINALIZER = "example.com/hold"
"""A finalizer that keeps the forged Job. The garbage collector would delete the Job, because its owner is not
in its namespace."""


def forged_pod(api: client.ApiClient, namespace: str, pod: Any, job_uid: str, address: Address) -> FakePod:
    """Create a pod in ``namespace`` that imitates ``pod`` of another namespace, and that no node runs."""
    labels = {k: v for k, v in pod.metadata.labels.items() if "tunegate" in k or "tunegate" in v}
    environment = [{"name": e.name, "value": e.value} for e in pod.spec.containers[0].env or [] if e.value]
    owner = {"apiVersion": API_VERSION, "kind": "FineTuneJob", "name": "forged", "uid": job_uid}
    container = {"name": "trainer", "image": "forged", "args": ["data"], "env": environment}
    template = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": POD_SECURITY,
        "containers": [container | {"securityContext": CONTAINER_SECURITY}],
        "nodeSelector": {"no": "node"},
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": "forged",
            "labels": labels,
            "ownerReferences": [owner | {"controller": True}],
            "finalizers": [FINALIZER],
        },
        "spec": {"template": {"metadata": {"labels": labels}, "spec": template}},
    }
    client.BatchV1Api(acting_as(api, OPERATOR)).create_namespaced_job(namespace, job)
    core = client.CoreV1Api(api)

    def made() -> Any:
        pods = core.list_namespaced_pod(namespace, label_selector="job-name=forged").items
        return pods[0] if pods else None

    return FakePod(api, address, eventually(made, seconds=60, what="the forged pod exists"))


def release(api: client.ApiClient, namespace: str) -> None:
    """Remove the finalizer, so that the forged Job is deleted."""
    client.BatchV1Api(api).patch_namespaced_job("forged", namespace, {"metadata": {"finalizers": None}})
