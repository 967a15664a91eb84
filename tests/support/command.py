"""Run the ``tunegate`` command as a user does, with manifests for a tiny model."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from support.builders import make_config_map
from support.fork_server import COMMAND, PACKAGES
from support.stage_folder import StageFolder
from tunegate_api.contract.digests import sha256_text

PROGRAM = "tunegate_client.cli.main"
FORK_CLIENT = PACKAGES / "fork_client.py"
QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart"
ITEMS = ("mug", "lamp", "chair", "desk", "pen", "cup")


@dataclass
class Command:
    """The ``tunegate`` command in its own working folder."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    """Additional environment variables for the command's processes."""
    _started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    def program(self) -> list[str]:
        """Return how to start the command: as a fork if the environment has the server of forks, otherwise
        in a new process."""
        if COMMAND in self.environment:
            return [sys.executable, "-S", str(FORK_CLIENT), COMMAND, PROGRAM]
        return [sys.executable, "-m", PROGRAM]

    def __call__(self, *args: str, seconds: float = 240) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        process = self.start(*args)
        output, _ = process.communicate(timeout=seconds)
        return subprocess.CompletedProcess(args, process.returncode, output, "")

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Start the command."""
        process = subprocess.Popen(
            [*self.program(), *args],
            cwd=self.folder,
            env={"OMP_NUM_THREADS": "1", **os.environ, "COLUMNS": "200", **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._started.append(process)
        return process

    def kill(self) -> None:
        """Kill the remaining processes of a failed test."""
        for process in self._started:
            if process.returncode is None:
                process.kill()
                process.communicate()
        for pod in self.pods():
            pod.kill()

    def object(self, name: str = "orders") -> dict[str, Any]:
        loaded: dict[str, Any] = yaml.safe_load((self.runs / name / "status.yaml").read_text())
        return loaded

    def status(self, name: str = "orders") -> dict[str, Any]:
        status: dict[str, Any] = self.object(name)["status"]
        return status

    def pods(self) -> list[psutil.Process]:
        """Return the processes of all pods below this folder."""
        root, found = str(self.runs), []
        for process in psutil.process_iter(["cmdline", "environ"]):
            if (process.info["environ"] or {}).get("TUNEGATE_ROOT", "").startswith(root):
                found.append(process)
        return found

    def trainers(self) -> list[psutil.Process]:
        """Return the processes of training pods."""
        return [process for process in self.pods() if "train" in (process.info["cmdline"] or [])]

    def logs(self) -> str:
        """Return the logs of all pods."""
        return "".join(path.read_text() for path in (self.runs / ".cluster" / "logs").iterdir())

    def is_training(self, name: str = "orders") -> bool:
        """Return whether a job's status shows training progress."""
        return (self.runs / name / "status.yaml").exists() and "progress" in self.status(name)

    @property
    def trainer(self) -> psutil.Process | None:
        """The process of the only training pod, or None. Fails if there are two training pods at once."""
        found = self.trainers()
        assert len(found) < 2, f"a second writer: {found}"
        return found[0] if found else None

    @property
    def stage(self) -> StageFolder:
        """The folder of the only job's stage. Raises AssertionError if it does not exist yet."""
        found = list((self.runs / "volumes" / "tuning").glob("tunegate/jobs/*/stages/sft"))
        assert len(found) == 1, f"{len(found)} folders of a stage"
        return StageFolder(found[0])

    def write(self, model: Path, /, folder: str = "manifests", **changes: Any) -> str:
        """Write the four manifests, with ``changes`` merged into the job's spec. Returns the folder's
        name."""
        return self.write_all(manifests(model, **changes), folder)

    def write_all(self, objects: list[dict[str, Any]], folder: str = "manifests") -> str:
        """Write manifests into a folder. Returns its name."""
        target = self.folder / folder
        target.mkdir(exist_ok=True)
        (target / "all.yaml").write_text(yaml.safe_dump_all(objects, sort_keys=False))
        return folder

    def edit(self, change: Callable[[dict[str, dict[str, Any]]], None], folder: str = "manifests") -> None:
        """Edit a folder's manifests: ``change`` gets the objects by name, and changes them in place."""
        path = self.folder / folder / "all.yaml"
        documents = {d["metadata"]["name"]: d for d in yaml.safe_load_all(path.read_text())}
        change(documents)
        path.write_text(yaml.safe_dump_all(list(documents.values()), sort_keys=False))


FIRST_ORDER = 2918
"""The order number of the first row in :func:`manifests`. With this number, dev and test have exactly the
requested fractions of the rows."""
SFT: dict[str, Any] = {
    "name": "sft",
    "method": "SFT",
    "adapter": {"type": "LoRA", "r": 8},
    "training": {"maxSteps": 15, "learningRate": "0.01", "batchSize": 4, "maxLength": 128, "seed": 1},
}
"""A stage in which a tiny model learns the answer."""

FEW_CHECKPOINTS: dict[str, Any] = {"evaluation": {"every": "50%"}}
"""Changes to a job whose checkpoints a test does not read. It evaluates two instead of five."""

DPO_AFTER_SFT: dict[str, Any] = {
    "stages": [
        SFT,
        {
            "name": "dpo",
            "method": "DPO",
            "adapter": {"from": "Previous"},
            "training": {
                "maxSteps": 6,
                "learningRate": "0.002",
                "batchSize": 4,
                "maxLength": 128,
                "seed": 1,
            },
        },
    ],
    "data": {
        "goal": "StyleOrFormat",
        "sizePolicy": "Warn",
        "sources": [
            {"name": "train", "configMap": "rows"},
            {"name": "preference", "use": "Preference", "configMap": "pairs"},
        ],
        "heldOut": {"fraction": "25%"},
    },
    "evaluation": {"every": "50%"},
}
"""Two stages for a job of :func:`manifests`, with the pairs of :func:`preference_pairs`."""


def preference_pairs() -> dict[str, Any]:
    """Return the ConfigMap with pairs that a tiny model can learn to distinguish."""
    pairs = [
        {"prompt": f"order {FIRST_ORDER + i}: mug", "chosen": "yes", "rejected": "no thanks"}
        for i in range(40)
    ]
    return make_config_map("pairs", pairs__jsonl="".join(json.dumps(pair) + "\n" for pair in pairs))


def manifests(model: Path, /, name: str = "orders", **changes: Any) -> list[dict[str, Any]]:
    rows = [
        {"prompt": f"order {FIRST_ORDER + i}: " + " ".join(ITEMS[: 1 + i % 6]), "completion": "yes"}
        for i in range(64)
    ]
    cases = [
        {
            "id": f"case-{i}",
            "prompt": f"golden order {i} {ITEMS[i % 6]}",
            "expect": [{"type": "equals", "value": "yes"}],
        }
        for i in range(20)
    ]
    golden = "".join(json.dumps(case) + "\n" for case in cases)
    train = "".join(json.dumps(row) + "\n" for row in rows)
    gate = {
        "apiVersion": "tunegate.dev/v1alpha2",
        "kind": "EvalGate",
        "metadata": {"name": "golden"},
        "spec": {
            "sets": [
                {
                    "name": "golden",
                    "source": {"configMap": "cases"},
                    "sha256": sha256_text(golden),
                    "rules": [{"name": "all", "minPassRate": "80%"}],
                }
            ],
            "generation": {"maxNewTokens": 6},
        },
    }
    job = {
        "apiVersion": "tunegate.dev/v1alpha2",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {
            "model": {"uri": f"file://{model}"},
            "data": {
                "goal": "StyleOrFormat",
                "sizePolicy": "Warn",
                "sources": [{"name": "train", "configMap": "rows"}],
                "heldOut": {"fraction": "25%"},
            },
            "taskMetrics": [{"name": "exact_match", "type": "ExactMatch", "min": "80%"}],
            "stages": [deepcopy(SFT)],  # tests change the returned manifests
            "gates": [{"name": "golden"}],
            "resources": {"accelerator": "CPU"},
            "storage": {"persistentVolumeClaim": "tuning"},
            "publish": [{"uri": "pvc://models/orders"}],
            **deepcopy(changes),
        },
    }
    return [
        make_config_map("rows", train__jsonl=train),
        make_config_map("cases", golden__jsonl=golden),
        gate,
        job,
    ]
