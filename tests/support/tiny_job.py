"""A job with a tiny model on the node, with its volumes, model and manifests."""

import json
import os
from pathlib import Path
from typing import Any

import psutil

from support.command import manifests
from support.node import ENDED, Node
from support.stage_folder import StageFolder
from support.tiny_model import save_tiny_model
from support.waiting import eventually
from tunegate_api.contract.workspace import Workspace

POD_USER = 65532
LONG = {"maxSteps": 200, "learningRate": "0.01", "batchSize": 4, "maxLength": 128, "seed": 1}
"""Parameters of a training that is long enough to be interrupted."""


class TinyJob:
    """The FineTuneJob ``name`` in a namespace, with its volumes and model.

    The job reads the tiny model from the volume ``models``, and publishes to this volume. Several jobs may
    share their volumes.
    """

    def __init__(self, node: Node, namespace: str, name: str = "orders") -> None:
        self.node = node
        self.namespace = namespace
        self.name = name
        self.storage = node.volume(namespace, "tuning")
        self.models = node.volume(namespace, "models")
        tiny = self.models / "tiny"
        if not tiny.exists():
            save_tiny_model(tiny)
            for path in [tiny, *tiny.iterdir()]:
                os.chown(path, POD_USER, POD_USER)

    def manifests(self, training: dict[str, Any] | None = None, **changes: Any) -> list[dict[str, Any]]:
        """Return the manifests of inputs, gate and job. ``training`` replaces the stage's, and ``changes``
        replace spec fields."""
        made = manifests(
            Path("/unused"),
            self.name,
            **{
                "model": {"uri": "pvc://models/tiny"},
                # The number of threads decides how sums are rounded. With one, all runs give the same model.
                "resources": {"accelerator": "CPU", "cpu": "1"},
                "publish": [{"uri": f"pvc://models/{self.name}"}],
                **changes,
            },
        )
        if training:
            made[-1]["spec"]["stages"][0]["training"] = training
        return made

    def apply(self, training: dict[str, Any] | None = None, **changes: Any) -> None:
        self.node.apply(self.namespace, *self.manifests(training, **changes))

    def suspend(self, value: bool) -> None:
        """Suspend or resume the job."""
        patch = json.dumps({"spec": {"suspend": value}})
        self.node.kubectl("patch", "ftj", self.name, "-n", self.namespace, "--type=merge", "-p", patch)

    def get(self) -> dict[str, Any]:
        return self.node.get("ftj", self.name, self.namespace)

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.get().get("status", {})
        return status

    def wait_for(self, *phases: str, seconds: float = 240) -> dict[str, Any]:
        """Wait until the job is in one of these phases. Returns its status; raises RuntimeError if it ended
        in another."""

        def reached() -> dict[str, Any] | None:
            status = self.status()
            if status.get("phase") in phases:
                return status
            if status.get("phase") in ENDED:
                raise RuntimeError(f"{status['phase']}: {status.get('message')}")
            return None

        return eventually(reached, seconds=seconds, what=f"{self.name} is {' or '.join(phases)}", pause=0.3)

    def wait_for_reason(self, reason: str, *, seconds: float = 90) -> str:
        """Wait until the Ready condition has this reason. Returns its message."""

        def message() -> str:
            conditions = {c["type"]: c for c in self.status().get("conditions", [])}
            ready = conditions.get("Ready", {})
            assert ready.get("reason") == reason, f"{ready.get('reason')}: {ready.get('message')}"
            return str(ready["message"])

        return eventually(message, seconds=seconds, what=f"waiting for {reason}", pause=0.5)

    def ended(self, seconds: float = 600) -> dict[str, Any]:
        """Wait until the job has ended in any phase. Returns its status."""
        return self.wait_for(*ENDED, seconds=seconds)

    def stage(self) -> StageFolder:
        """Return the job's stage on the volume. Raises AssertionError if it does not exist yet."""
        folder = self.storage / Workspace(self.get()["metadata"]["uid"]).stage("sft")
        assert folder.exists(), f"{folder} is not there yet"
        return StageFolder(folder)

    def wait_for_checkpoints(self, count: int) -> None:
        def there() -> bool:
            return len(self.stage().evaluated()) >= count

        eventually(there, seconds=240, what=f"{count} checkpoints", pause=0.1)

    def pods(self, role: str) -> list[dict[str, Any]]:
        """Return the job's pending and running pods of a role."""
        selector = f"tunegate.dev/job={self.name},tunegate.dev/role={role}"
        items: list[dict[str, Any]] = self.node.items("pods", self.namespace, selector)
        return [pod for pod in items if pod["status"]["phase"] in ("Pending", "Running")]

    def process(self, role: str) -> psutil.Process:
        """Return the process of the job's only pod of a role."""
        (pod,) = self.pods(role)
        return self.node.process(pod["metadata"]["name"])

    def child_jobs(self) -> list[str]:
        """Return the roles and attempts of the job's child Jobs, sorted."""
        labels = [
            job["metadata"]["labels"]
            for job in self.node.items("jobs", self.namespace, f"tunegate.dev/job={self.name}")
        ]
        return sorted(f"{one['tunegate.dev/role']} {one['tunegate.dev/attempt']}" for one in labels)
