"""A user who writes jobs, but not gates, cannot loosen a gate that the namespace requires."""

import json
from typing import Any

import pytest

from support.node import Node
from support.tiny_job import TinyJob

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def test_author_of_jobs_cannot_loosen_a_required_gate(node: Node, namespace: str) -> None:
    node.install()
    job = TinyJob(node, namespace)
    *inputs, orders = job.manifests()
    (gate,) = [obj for obj in inputs if obj["kind"] == "EvalGate"]
    name = gate["metadata"]["name"]
    node.apply(namespace, *inputs)
    node.kubectl("annotate", "namespace", namespace, f"tunegate.dev/required-gates={name}")
    node.kubectl("create", "serviceaccount", "author", "-n", namespace)
    account = f"{namespace}:author"
    role = ("--clusterrole=tunegate-edit", f"--serviceaccount={account}")
    node.kubectl("create", "rolebinding", "author", "-n", namespace, *role)

    def refusal(*arguments: str, body: dict[str, Any] | None = None) -> str:
        """Run kubectl as the author. Returns kubectl's error message; empty if it succeeds."""
        text = json.dumps(body) if body else None
        user = f"system:serviceaccount:{account}"
        try:
            node.kubectl("--as", user, "-n", namespace, *arguments, text=text)
        except AssertionError as error:
            return str(error)
        return ""

    spec = json.dumps({"spec": {"enforcement": "DryRun"}})
    annotation = "tunegate.dev/required-gates-"
    for attempt in (
        ("patch", "evalgate", name, "--type=merge", "-p", spec),
        ("delete", "evalgate", name),
        ("annotate", "namespace", namespace, annotation),
    ):
        assert "(Forbidden)" in refusal(*attempt), attempt
    easy = gate | {"metadata": {"name": "easy"}}
    assert "(Forbidden)" in refusal("create", "-f", "-", body=easy)

    gates = orders["spec"]["gates"]
    loose = orders | {"spec": orders["spec"] | {"gates": [{"name": "easy"}]}}
    refused = refusal("create", "-f", "-", body=loose)
    assert f"lacks gates that are required of every job: {name} (by the namespace)" in refused
    assert gates == [{"name": name}]
    assert refusal("create", "-f", "-", body=orders) == ""
    ended = job.ended()
    assert ended["phase"] == "Succeeded", ended["message"]
    assert [one["name"] for one in ended["final"]["gates"]] == [name]
