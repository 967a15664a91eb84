"""The Kubernetes node that ``make cluster-up`` starts. Tests use it with kubectl, helm, images and
volumes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml
from kubernetes import client, config

from support.helm import CHART, NAMESPACE, RELEASE, Helm
from support.waiting import eventually

ENDED = {"Succeeded", "Failed", "Stopped"}
SCRIPTS = Path(__file__).parents[1] / "cluster"


class Node:
    """The node that is running on this machine."""

    def __init__(self) -> None:
        exported = _run(["bash", "-c", 'eval "$("$0")" && env --null', SCRIPTS / "env.sh"])
        self._environment = dict(line.split("=", 1) for line in exported.split("\0") if line)
        self.helm = Helm(self._environment)
        self.client: client.ApiClient = config.new_client_from_config(self._environment["KUBECONFIG"])

    @property
    def host(self) -> str:
        """The address at which pods reach this machine."""
        return self._environment["TUNEGATE_TEST_HOST"]

    def kubectl(self, *arguments: str | Path, text: str | None = None) -> str:
        """Run kubectl. Returns its output; raises AssertionError if it fails."""
        return _run(["kubectl", *arguments], self._environment, text)

    def tunegate(self, *arguments: str) -> str:
        """Run the tunegate command. Returns its output; raises AssertionError if it fails."""
        return _run([sys.executable, "-m", "tunegate_client.cli.main", *arguments], self._environment)

    def plugin(self, *arguments: str, code: int = 0) -> str:
        """Run `kubectl tunegate`. Returns its output; raises AssertionError if it ends with another exit
        code."""
        process = self.start_plugin(*arguments)
        output, _ = process.communicate(timeout=600)
        assert process.returncode == code, output
        return output

    def start_plugin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `kubectl tunegate`. kubectl finds it beside this Python, where it is installed."""
        path = f"{Path(sys.executable).parent}:{self._environment['PATH']}"
        return subprocess.Popen(
            ["kubectl", "tunegate", *arguments],
            env={**self._environment, "PATH": path, "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @contextmanager
    def forwarded(self, target: str, port: int, namespace: str) -> Iterator[int]:
        """Forward a port of this machine to a port of a pod, such as ``deployment/tunegate``. Yields the port
        of this machine."""
        command = ["kubectl", "port-forward", target, f":{port}", "-n", namespace]
        with subprocess.Popen(command, env=self._environment, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()  # Forwarding from 127.0.0.1:PORT -> 8080
                assert line.startswith("Forwarding from 127.0.0.1:"), line
                yield int(line.split()[2].rpartition(":")[2])
            finally:
                process.terminate()

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "-n", namespace, "-o", "json"))
        return found

    def items(self, kind: str, namespace: str, selector: str) -> list[dict[str, Any]]:
        """Return the objects that a label selector matches."""
        listed = json.loads(self.kubectl("get", kind, "-n", namespace, "-l", selector, "-o", "json"))
        found: list[dict[str, Any]] = listed["items"]
        return found

    def process(self, pod: str) -> psutil.Process:
        """Return the Python process of a Tunegate pod. Processes in pods are also visible on this machine."""
        found = [
            process
            for process in psutil.process_iter(["environ", "cmdline"])
            if (process.info["environ"] or {}).get("HOSTNAME") == pod[:63]
            and "-m" in (process.info["cmdline"] or ())
        ]
        assert len(found) == 1, f"{len(found)} processes of {pod}"
        return found[0]

    def evict(self, namespace: str, pod: str) -> None:
        """Evict a pod, as ``kubectl drain`` does."""
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": namespace},
        }
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
        self.kubectl("create", "--raw", path, "-f", "-", text=json.dumps(eviction))

    def restart(self, program: str) -> None:
        """Kill one of the node's programs, which the node restarts."""
        _run([SCRIPTS / "kill.sh", program, "KILL"], self._environment)

    def apply(self, namespace: str, *objects: dict[str, Any]) -> None:
        """Create or change objects in this namespace, regardless of the namespace in their metadata."""
        placed = [{**obj, "metadata": {**obj["metadata"], "namespace": namespace}} for obj in objects]
        self.kubectl("apply", "-f", "-", text=yaml.safe_dump_all(placed))

    def image(self, name: str) -> str:
        """Build and load an image of Tunegate, unless the node has it. Returns its name in the node."""
        return _run([SCRIPTS / "images.sh", name], self._environment).strip()

    def manifest(self, image: str) -> dict[str, Any]:
        """Return the manifest of an image in the node, with its layers and configuration."""
        listed = _run(["ctr", "images", "list", f"name=={image}"], self._environment)
        _, line = listed.strip().splitlines()
        manifest: dict[str, Any] = json.loads(self.content(line.split()[2]))
        return manifest

    def content(self, digest: str) -> bytes:
        """Return the content of an image in the node by its digest."""
        command = ["ctr", "content", "get", digest]
        return subprocess.run(command, env=self._environment, capture_output=True, check=True).stdout

    def volume(self, namespace: str, claim: str) -> Path:
        """Create a claim. Returns its folder on this machine."""
        return Path(_run([SCRIPTS / "volume.sh", namespace, claim], self._environment).strip())

    def install(self, *values: str, replicas: int = 1, trainer_image: str = "", chart: Path = CHART) -> None:
        """Install or upgrade the operator from its image, and wait until it leads."""
        arguments = ["--set", f"replicas={replicas}"]
        images = {"image": self.image("operator"), "trainerImage": trainer_image or self.image("trainer")}
        for key, image in images.items():
            repository, _, tag = image.rpartition(":")
            # A tag may look like a number.
            arguments += ["--set-string", f"{key}.repository={repository},{key}.tag={tag}"]
        for value in values:
            arguments += ["--set", value]
        strict = {"pod-security.kubernetes.io/enforce": "restricted"}
        own = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": strict}}
        self.kubectl("apply", "-f", "-", text=json.dumps(own))
        options = ("--install", "--namespace", NAMESPACE)
        done = self.helm("upgrade", RELEASE, chart, *options, *arguments)
        assert done.returncode == 0, done.stderr
        self._wait_for_operator()

    def rollback(self) -> None:
        """Roll back the last :meth:`install`, and wait until the operator leads."""
        done = self.helm("rollback", RELEASE, "--namespace", NAMESPACE)
        assert done.returncode == 0, done.stderr
        self._wait_for_operator()

    def _wait_for_operator(self) -> None:
        self.kubectl("rollout", "status", "deployment/tunegate", "-n", NAMESPACE, "--timeout=180s")
        eventually(lambda: self.leader() in self.operators(), seconds=60, what="a new pod leads", pause=0.5)

    def operators(self) -> list[str]:
        """Return the operator's pods that are not being deleted."""
        pods = self.items("pods", NAMESPACE, "app.kubernetes.io/name=tunegate")
        return [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def leader(self) -> str:
        """Return the name of the operator's leading pod; empty if there is none."""
        found = self.kubectl(
            "get", "lease", "tunegate-operator", "-n", NAMESPACE, "--ignore-not-found", "-o", "json"
        )
        holder: str = json.loads(found)["spec"].get("holderIdentity", "") if found else ""
        return holder

    def ended_job(self, name: str, namespace: str, *, seconds: float) -> dict[str, Any]:
        """Wait until a FineTuneJob has ended in any phase. Returns it."""

        def ended() -> dict[str, Any] | None:
            job = self.get("ftj", name, namespace)
            return job if job.get("status", {}).get("phase") in ENDED else None

        return eventually(ended, seconds=seconds, what=f"{name} ended", pause=2)

    def story(self, namespace: str) -> str:
        """Return the state of a namespace's jobs, as kubectl shows it."""
        if not self.kubectl("get", "crds", "-o", "name"):  # nothing was installed yet
            return self.kubectl("get", "jobs,pods", "-n", namespace, "-o", "wide")
        listed = self.kubectl("get", "ftj,eg,jobs,pods", "-n", namespace, "-o", "wide")
        jobs = self.kubectl("get", "ftj", "-n", namespace, "-o", "name")
        described = self.kubectl("describe", "ftj", "-n", namespace) if jobs else "its jobs are deleted\n"
        return listed + described


def _run(
    command: list[str | Path], environment: dict[str, str] | None = None, text: str | None = None
) -> str:
    done = subprocess.run(command, env=environment, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout
