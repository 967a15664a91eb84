"""A place with jobs for tests of clients and commands: a runs folder, or a namespace of a cluster."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
from click.testing import CliRunner, Result
from kubernetes import client

from support import manifests
from support.api_server import ApiServer
from support.waiting import eventually
from tunegate_client.laptop.cluster import objects_folder
from tunegate_client.laptop.jobs import OWNER_ANNOTATION
from tunegate_client.laptop.object_folder import ObjectFolder, to_yaml
from tunegate_client.laptop.status import cluster_folder, status_file, write_if_changed
from tunegate_client.laptop.store import ObjectStore
from tunegate_client.places.client import Client
from tunegate_client.places.kube import KubernetesClient
from tunegate_client.places.runs import RunsClient
from tunegate_operator.engine.clock import SystemClock
from tunegate_operator.engine.cluster import Cluster, ForbiddenError, Key, Object, WatchEvent
from tunegate_operator.engine.kubernetes import KubernetesCluster
from tunegate_operator.engine.objects import uid_of
from tunegate_operator.engine.owners import owner_reference
from tunegate_operator.names import (
    ATTEMPT_LABEL,
    JOB_LABEL,
    MANAGED_LABELS,
    ROLE_LABEL,
    STAGE_LABEL,
    attempt_name,
)

STOP = {
    "id": "sft-1-20",
    "stage": "sft",
    "step": 20,
    "gate": "golden",
    "reason": "GoldenRegression",
    "message": "the pass rate fell",
    "regressedCount": 0,
    "stepsSaved": 30,
    "time": "2026-01-01T00:00:00Z",
}
"""The field ``stop`` in the status of a job that a gate stopped."""
PLAN = {
    "sha256": "0" * 64,
    "configMap": "plan",
    "model": {"uri": "package://tiny", "digest": "0" * 64},
    "image": "trainer@sha256:1",
}
"""The field ``plan`` in the status of a job whose data is prepared."""


@dataclass
class Place:
    """A client, and the cluster whose objects it reads."""

    client: Client
    cluster: Cluster
    options: list[str]
    """The options with which a command reads this place."""
    namespace: str = "default"

    def create(self, obj: Object, name: str = "") -> Object:
        """Create an object in this place, with another name if one is given."""
        metadata = obj["metadata"] | {"namespace": self.namespace} | ({"name": name} if name else {})
        return self.cluster.create({**obj, "metadata": metadata})

    def set_status(self, obj: Object, **status: object) -> Object:
        """Replace the status of an object, whatever its version."""
        current = self.cluster.get(Key.of(obj))
        assert current
        return self.cluster.patch_status(Key.of(obj), dict(status), current["metadata"]["resourceVersion"])

    def delete(self, obj: Object) -> None:
        """Delete an object, and wait until it is gone."""
        self.cluster.delete(Key.of(obj), uid_of(obj))
        eventually(lambda: self.cluster.get(Key.of(obj)) is None, what=f"{Key.of(obj)} is deleted")

    def create_pod(
        self, job: Object, role: str = "data", stage: str | None = None, attempt: int = 1
    ) -> Object:
        """Create the pod of an attempt. Its owner is a ConfigMap with the name of the pod's Job, because the
        controller of a real Job would delete the pod."""
        metadata = job["metadata"]
        name = attempt_name(metadata["name"], metadata["uid"], role, stage, attempt)
        owner = owner_reference(self.create(manifests.config_map(name, {}))) | {"blockOwnerDeletion": False}
        labels = {JOB_LABEL: metadata["name"], ROLE_LABEL: role, ATTEMPT_LABEL: str(attempt)}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{name}-pod",
                "labels": MANAGED_LABELS | labels | ({STAGE_LABEL: stage} if stage else {}),
                "annotations": {OWNER_ANNOTATION: metadata["uid"]},
                "ownerReferences": [owner],
            },
            "spec": _POD,
        }

        def created() -> Object | None:
            try:
                return self.create(pod)
            except ForbiddenError:  # a controller creates the service account of a new namespace
                return None

        return eventually(created, what="the namespace has a service account")


@dataclass
class CommandAt:
    """A command that is always called with the options of one place."""

    command: click.Command
    place: Place

    def __call__(self, name: str, *arguments: str) -> Result:
        return CliRunner().invoke(self.command, [name, *arguments, *self.place.options])


_POD = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "trainer",
            "image": "trainer:test",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
    ],
}


def runs_place(runs: Path) -> Place:
    """Return a runs folder. No process has locked it."""
    store = ObjectStore(SystemClock(), ObjectFolder(objects_folder(cluster_folder(runs))))
    store.watch(lambda event: write_status(runs, event))
    return Place(RunsClient(runs), store, ["--runs", str(runs)])


def write_status(runs: Path, event: WatchEvent) -> None:
    """Write the status file of a changed job, as a process that runs the job does."""
    if event.obj["kind"] == "FineTuneJob":
        path = status_file(runs, event.obj["metadata"]["name"])
        if event.type == "DELETED":
            shutil.rmtree(path.parent)
        else:
            write_if_changed(path, to_yaml(event.obj))


@contextmanager
def namespace_place(server: ApiServer) -> Iterator[Place]:
    """A new namespace of a real API server, which accepts only pods that meet Pod Security "restricted". The
    client is connected as a user connects."""
    name = f"team-{uuid.uuid4().hex[:6]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    kubeconfig = str(server.kubeconfig)
    with server.client(retries=False) as api:
        core = client.CoreV1Api(api)
        core.create_namespace({"metadata": {"name": name, "labels": labels}})
        kube = KubernetesClient.connect(kubeconfig=kubeconfig, namespace=name)
        options = ["--kubeconfig", kubeconfig, "--namespace", name]
        yield Place(kube, KubernetesCluster(api, SystemClock()), options, name)
        core.delete_namespace(name)
