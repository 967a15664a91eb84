"""The whole node of ``make cluster-up``, as people use it: kubectl, helm, images, volumes."""

import json
import subprocess
import sys
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
    """The node that runs on this machine."""

    def __init__(self) -> None:
        exported = _run(["bash", "-c", 'eval "$("$0")" && env --null', SCRIPTS / "env.sh"])
        self._environment = dict(line.split("=", 1) for line in exported.split("\0") if line)
        self.helm = Helm(self._environment)
        self.client: client.ApiClient = config.new_client_from_config(self._environment["KUBECONFIG"])

    @property
    def host(self) -> str:
        """The address of this machine, as pods reach it."""
        return self._environment["TUNEGATE_TEST_HOST"]

    def kubectl(self, *arguments: str | Path, text: str | None = None) -> str:
        """What kubectl prints; fails if it does."""
        return _run(["kubectl", *arguments], self._environment, text)

    def tunegate(self, *arguments: str) -> str:
        """What our command prints; fails if it does."""
        return _run([sys.executable, "-m", "tunegate_operator.cli.main", *arguments], self._environment)

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "-n", namespace, "-o", "json"))
        return found

    def items(self, kind: str, namespace: str, selector: str) -> list[dict[str, Any]]:
        """The objects that a label selector matches."""
        listed = json.loads(self.kubectl("get", kind, "-n", namespace, "-l", selector, "-o", "json"))
        found: list[dict[str, Any]] = listed["items"]
        return found

    def process(self, pod: str) -> psutil.Process:
        """The Python process of a pod of ours, which the kernel shows on this machine too."""
        found = [
            process
            for process in psutil.process_iter(["environ", "cmdline"])
            if (process.info["environ"] or {}).get("HOSTNAME") == pod[:63]
            and "-m" in (process.info["cmdline"] or ())
        ]
        assert len(found) == 1, f"{len(found)} processes of {pod}"
        return found[0]

    def evict(self, namespace: str, pod: str) -> None:
        """Take a pod away, as ``kubectl drain`` does."""
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": namespace},
        }
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
        self.kubectl("create", "--raw", path, "-f", "-", text=json.dumps(eviction))

    def restart(self, program: str) -> None:
        """Kill one of the node's programs; it is started again at once."""
        _run([SCRIPTS / "kill.sh", program, "KILL"], self._environment)

    def apply(self, namespace: str, *objects: dict[str, Any]) -> None:
        """Create or change objects, in this namespace whatever they say."""
        placed = [{**obj, "metadata": {**obj["metadata"], "namespace": namespace}} for obj in objects]
        self.kubectl("apply", "-f", "-", text=yaml.safe_dump_all(placed))

    def image(self, name: str) -> str:
        """Build and load one of our images unless it is there. Returns its name in the node."""
        return _run([SCRIPTS / "images.sh", name], self._environment).strip()

    def manifest(self, image: str) -> dict[str, Any]:
        """Of an image that the node has: its layers and where its configuration is."""
        listed = _run(["ctr", "images", "list", f"name=={image}"], self._environment)
        _, line = listed.strip().splitlines()
        manifest: dict[str, Any] = json.loads(self.content(line.split()[2]))
        return manifest

    def content(self, digest: str) -> bytes:
        """Of an image's part, what the node has under this digest."""
        command = ["ctr", "content", "get", digest]
        return subprocess.run(command, env=self._environment, capture_output=True, check=True).stdout

    def volume(self, namespace: str, claim: str) -> Path:
        """A claim that pods can use. Returns its folder on this machine."""
        return Path(_run([SCRIPTS / "volume.sh", namespace, claim], self._environment).strip())

    def install(self, *values: str, replicas: int = 1, trainer_image: str = "", chart: Path = CHART) -> None:
        """Install our operator from its image, or change how it is installed; then it works."""
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
        """Take back the last :meth:`install`; then the operator works."""
        done = self.helm("rollback", RELEASE, "--namespace", NAMESPACE)
        assert done.returncode == 0, done.stderr
        self._wait_for_operator()

    def _wait_for_operator(self) -> None:
        self.kubectl("rollout", "status", "deployment/tunegate", "-n", NAMESPACE, "--timeout=180s")
        eventually(lambda: self.leader() in self.operators(), seconds=60, what="a new pod leads", pause=0.5)

    def operators(self) -> list[str]:
        """The operator's pods that are to stay."""
        pods = self.items("pods", NAMESPACE, "app.kubernetes.io/name=tunegate")
        return [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def leader(self) -> str:
        """The operator's pod that works; empty while there is none."""
        found = self.kubectl(
            "get", "lease", "tunegate-operator", "-n", NAMESPACE, "--ignore-not-found", "-o", "json"
        )
        holder: str = json.loads(found)["spec"].get("holderIdentity", "") if found else ""
        return holder

    def ended_job(self, name: str, namespace: str, *, seconds: float) -> dict[str, Any]:
        """A FineTuneJob once it has ended, well or not."""

        def ended() -> dict[str, Any] | None:
            job = self.get("ftj", name, namespace)
            return job if job.get("status", {}).get("phase") in ENDED else None

        return eventually(ended, seconds=seconds, what=f"{name} ended", pause=2)

    def story(self, namespace: str) -> str:
        """How the jobs of a namespace stand, as people see it."""
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
