"""Fixtures of the clients' tests: a place with jobs, on this machine or on a real API server."""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client

from support.api_server import ApiServer
from support.places import Place
from tunegate_operator.clients.kube import KubernetesClient
from tunegate_operator.clients.runs import RunsClient
from tunegate_operator.engine.clock import SystemClock
from tunegate_operator.engine.cluster import WatchEvent
from tunegate_operator.engine.kubernetes import KubernetesCluster
from tunegate_operator.laptop.cluster import objects_folder
from tunegate_operator.laptop.object_folder import ObjectFolder, to_yaml
from tunegate_operator.laptop.status import cluster_folder, status_file, write_if_changed
from tunegate_operator.laptop.store import ObjectStore


@pytest.fixture
def runs(tmp_path: Path) -> Place:
    """A runs folder. No process has locked it."""
    runs = tmp_path / "runs"
    store = ObjectStore(SystemClock(), ObjectFolder(objects_folder(cluster_folder(runs))))

    def write_status(event: WatchEvent) -> None:
        if event.obj["kind"] == "FineTuneJob":
            path = status_file(runs, event.obj["metadata"]["name"])
            if event.type == "DELETED":
                shutil.rmtree(path.parent)
            else:
                write_if_changed(path, to_yaml(event.obj))

    store.watch(write_status)
    return Place(RunsClient(runs), store)


@pytest.fixture
def namespace(server: ApiServer) -> Iterator[str]:
    """A namespace for this test only, which accepts only pods that meet Pod Security "restricted"."""
    name = f"team-{uuid.uuid4().hex[:6]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    with server.client() as api:
        core = client.CoreV1Api(api)
        core.create_namespace({"metadata": {"name": name, "labels": labels}})
        yield name
        core.delete_namespace(name)


@pytest.fixture
def kube(server: ApiServer, namespace: str) -> KubernetesClient:
    """A client of the real API server, connected as a user connects."""
    return KubernetesClient.connect(kubeconfig=str(server.kubeconfig), namespace=namespace)


@pytest.fixture
def kubernetes(server: ApiServer, kube: KubernetesClient) -> Iterator[Place]:
    """A namespace of the real API server."""
    with server.client(retries=False) as api:
        yield Place(kube, KubernetesCluster(api, SystemClock()), kube.namespace)
