"""An operator that starts before its definitions are served."""

from pathlib import Path

import pytest
from kubernetes import client

from support import manifests
from support.api_server import api_server
from support.operator_command import NAMESPACE, OperatorCommand
from support.waiting import eventually

pytestmark = pytest.mark.cluster
GROUP = ("tunegate.dev", "v1alpha1", "default", "evalgates")


def test_it_waits_for_its_definitions_and_then_watches_its_kinds(tmp_path: Path) -> None:
    with (
        api_server(tmp_path, definitions=False) as server,
        server.client() as api,
    ):
        client.CoreV1Api(api).create_namespace({"metadata": {"name": NAMESPACE}})
        started = OperatorCommand(server, tmp_path / "operator.log")
        try:
            eventually(
                lambda: "the definitions: " in started.log.read_text(), what="it says what it waits for"
            )
            assert started.probe("/healthz") == 200
            assert started.probe("/readyz") == 503
            server.install_crds()
            eventually(lambda: "deciding since" in started.log.read_text(), seconds=90, what="it leads")
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
