"""An operator with ``watchNamespaces`` has permissions only in the namespaces that this value lists."""

import pytest

from support.node import Node
from support.tiny_job import TinyJob
from support.waiting_job import wait_until_served, waiting_job

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def test_only_jobs_in_watched_namespaces_are_reconciled(node: Node, namespace: str) -> None:
    elsewhere = f"not-{namespace}"[:63]
    node.kubectl("create", "namespace", elsewhere)
    try:
        node.install(f"watchNamespaces={{{namespace}}}")
        node.apply(elsewhere, waiting_job("elsewhere"))
        job = TinyJob(node, namespace)
        job.apply()
        assert job.ended()["phase"] == "Succeeded", job.status()["message"]
        assert "status" not in node.get("ftj", "elsewhere", elsewhere)

        node.install()
        wait_until_served(node, elsewhere, "elsewhere")
    finally:
        node.kubectl("delete", "namespace", elsewhere, "--timeout=120s")
