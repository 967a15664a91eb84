"""The operator's service account may access only the objects of FineTuneJobs."""

import json

import pytest

from support.api_server import OPERATOR
from support.node import Node
from support.tiny_job import LONG, TinyJob

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def refusal(node: Node, *arguments: str, text: str | None = None) -> str:
    """Run kubectl as the operator's service account. Returns kubectl's error message, or an empty string if
    it succeeds."""
    try:
        node.kubectl("--as", OPERATOR, *arguments, text=text)
    except AssertionError as error:
        return str(error)
    return ""


def test_operator_account_cannot_write_foreign_objects_while_a_job_runs(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    job.apply(LONG)
    job.wait_for("Training")

    coredns = node.get("configmap", "coredns", "kube-system")
    forged = coredns | {"data": {"Corefile": "evil"}}
    owner = {
        "apiVersion": "tunegate.dev/v1alpha2",
        "kind": "FineTuneJob",
        "name": job.name,
        "uid": job.get()["metadata"]["uid"],
        "controller": True,
    }
    labels = {"app.kubernetes.io/managed-by": "tunegate"}
    metadata = {"labels": labels, "ownerReferences": [owner]}
    adopted = forged | {"metadata": coredns["metadata"] | metadata}
    foreign_job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "forged", "namespace": "kube-system"},
        "spec": {
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "x", "image": "x"}]}}
        },
    }
    attempts = {
        "change": ("replace", forged),
        "unlabelled": ("create", coredns | {"metadata": {"name": "forged", "namespace": namespace}}),
        "job": ("create", foreign_job),
    }
    for name, (verb, body) in attempts.items():
        message = refusal(node, verb, "-f", "-", text=json.dumps(body))
        assert "the operator may" in message, f"{name}: {message or 'done'}"
    # The node's API server has an admission plug-in that may refuse this first; tests/chart has none.
    assert "(Forbidden)" in refusal(node, "replace", "-f", "-", text=json.dumps(adopted))
    own = {"name": "own", "namespace": namespace, "labels": labels, "ownerReferences": [owner]}
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": own}
    assert refusal(node, "create", "-f", "-", text=json.dumps(config_map)) == ""
    assert node.get("configmap", "coredns", "kube-system")["data"] == coredns["data"]
    assert job.ended()["phase"] == "Succeeded", job.status()["message"]
