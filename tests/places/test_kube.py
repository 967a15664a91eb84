"""The client of a cluster while the API server is unavailable."""

import threading
from pathlib import Path

import pytest
import yaml

from support import manifests
from support.api_server import ApiServer
from support.places import Place
from support.waiting import eventually
from tunegate_client.places.client import ClientError, ClusterUnreachableError
from tunegate_client.places.kube import KubernetesClient
from tunegate_operator.engine import kubernetes as kubernetes_module
from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.kubernetes import Resource

pytestmark = pytest.mark.cluster


def test_watch_continues_after_an_outage_of_the_api_server(server: ApiServer, kubernetes: Place) -> None:
    job, seen, notices = kubernetes.create(manifests.finetunejob()), list[Object](), list[str]()
    client = KubernetesClient.connect(
        kubeconfig=str(server.kubeconfig), namespace=kubernetes.namespace, notice=notices.append
    )
    watcher = threading.Thread(target=lambda: seen.extend(client.watch("FineTuneJob", "orders")), daemon=True)
    watcher.start()
    with server.outage():
        eventually(lambda: notices, what="a retry is reported")
        with pytest.raises(
            ClusterUnreachableError,
            match=r"the FineTuneJobs cannot be listed: the cluster is unreachable: .*namespace team",
        ):
            client.list_objects("FineTuneJob")
    kubernetes.set_status(job, phase="Training")
    kubernetes.delete(job)
    watcher.join(30)
    assert not watcher.is_alive(), "it ends when the job is deleted"
    assert "retrying in 1 s" in notices[0]
    assert seen[0]["metadata"]["name"] == "orders"


def test_cluster_without_tunegate_is_reported(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = {"FineTuneJob": Resource("missing.dev/v1", "finetunejobs")}
    monkeypatch.setattr(kubernetes_module, "_RESOURCES", missing)
    client = KubernetesClient.connect(kubeconfig=str(server.kubeconfig))
    with pytest.raises(ClientError, match="Tunegate is not installed in this cluster") as raised:
        client.list_objects("FineTuneJob")
    assert not isinstance(raised.value, ClusterUnreachableError), "it is not retried"


def test_expired_login_is_not_retried(server: ApiServer, tmp_path: Path) -> None:
    config = yaml.safe_load(server.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": "expired"}
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    client = KubernetesClient.connect(kubeconfig=str(tmp_path / "config"))
    with pytest.raises(ClientError, match="log in to the cluster again") as raised:
        client.list_objects("FineTuneJob")
    assert not isinstance(raised.value, ClusterUnreachableError)
