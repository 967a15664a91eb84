"""An operator that starts before its CustomResourceDefinitions are installed."""

from pathlib import Path

import pytest
from kubernetes import client

from support import manifests
from support.api_server import api_server
from support.helm import NAMESPACE
from support.operator_command import OperatorCommand, grant_rights
from support.waiting import eventually

pytestmark = pytest.mark.cluster
GROUP = ("tunegate.dev", "v1alpha2", "default", "evalgates")


def wait_for_definitions(started: OperatorCommand) -> None:
    eventually(
        lambda: "the CustomResourceDefinitions: " in started.log.read_text(),
        what="a log line about what it waits for",
    )


def test_failed_start_ends_the_process(tmp_path: Path) -> None:
    """Kubernetes then restarts the pod, and a person can fix the problem that the log names."""
    with api_server(tmp_path, definitions=False) as server, server.client() as api:
        grant_rights(api)
        broken = {"metadata": {"name": "tunegate-report-ca"}, "data": {"tls.key": "", "tls.crt": ""}}
        client.CoreV1Api(api).create_namespaced_secret(NAMESPACE, broken)
        started = OperatorCommand(server, tmp_path / "operator.log")
        try:
            assert started.process.wait(30) == 1
        finally:
            started.kill()
        assert "tunegate-report-ca" in started.log.read_text()


def test_operator_waits_for_its_crds_and_then_reconciles(tmp_path: Path) -> None:
    with (
        api_server(tmp_path, definitions=False) as server,
        server.client() as api,
    ):
        grant_rights(api)
        asked_to_stop = OperatorCommand(server, tmp_path / "first.log")
        wait_for_definitions(asked_to_stop)
        asked_to_stop.stop(seconds=10)

        started = OperatorCommand(server, tmp_path / "operator.log")
        try:
            wait_for_definitions(started)
            eventually(lambda: started.probe("/healthz") == 200, what="the operator is alive")
            assert started.probe("/readyz") == 503
            server.install_crds()
            eventually(lambda: "started reconciling" in started.log.read_text(), seconds=90, what="it leads")
            # Resyncs are minutes apart: only a watch sees this in time.
            custom = client.CustomObjectsApi(api)
            custom.create_namespaced_custom_object(*GROUP, manifests.evalgate("golden"))
            eventually(
                lambda: custom.get_namespaced_custom_object(*GROUP, "golden").get("status"),
                seconds=30,
                what="its status",
            )
        finally:
            started.kill()
