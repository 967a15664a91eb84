"""A folder of manifests that run with a tiny model, and the command as a user calls it."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.builders import make_config_map
from support.tiny_model import save_tiny_model
from tunegate_api.contract import sha256_text

ITEMS = ("mug", "lamp", "chair", "desk", "pen", "cup")


@dataclass
class Command:
    """The ``tunegate`` command in a working folder of its own."""

    folder: Path

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    def start(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tunegate_operator.cli", *args],
            cwd=self.folder,
            env={"OMP_NUM_THREADS": "1", **os.environ, "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # As in a terminal: a background job, as CI may be, inherits that SIGINT is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - one thread here
        )

    def __call__(self, *args: str, seconds: float = 240) -> subprocess.CompletedProcess[str]:
        process = self.start(*args)
        output, _ = process.communicate(timeout=seconds)
        return subprocess.CompletedProcess(args, process.returncode, output, "")

    def status(self, name: str = "orders") -> dict[str, Any]:
        loaded = yaml.safe_load((self.runs / name / "status.yaml").read_text())
        status: dict[str, Any] = loaded["status"]
        return status

    def write(self, model: Path, folder: str = "manifests", **changes: Any) -> str:
        """Write the four manifests; ``changes`` are merged into the job's spec. Returns the folder's name."""
        target = self.folder / folder
        target.mkdir(exist_ok=True)
        (target / "all.yaml").write_text(yaml.safe_dump_all(manifests(model, **changes), sort_keys=False))
        return folder


def manifests(model: Path, name: str = "orders", **changes: Any) -> list[dict[str, Any]]:
    rows = [{"prompt": f"order {i}: " + " ".join(ITEMS[: 1 + i % 6]), "completion": "yes"} for i in range(64)]
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
        "apiVersion": "tunegate.dev/v1alpha1",
        "kind": "EvalGate",
        "metadata": {"name": "golden"},
        "spec": {
            "golden": {"source": {"configMap": "cases"}, "sha256": sha256_text(golden)},
            "generation": {"maxNewTokens": 6},
            "thresholds": {"minPassRate": "0.8"},
        },
    }
    job = {
        "apiVersion": "tunegate.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {
            "model": {"uri": f"file://{model}"},
            "data": {
                "goal": "StyleOrFormat",
                "sizePolicy": "Warn",
                "train": {"configMap": "rows"},
                "heldOut": {"fraction": "0.25"},
            },
            "taskMetrics": [{"name": "exact_match", "min": "0.8"}],
            "stages": [
                {
                    "name": "sft",
                    "method": "SFT",
                    "adapter": {"type": "LoRA", "r": 8},
                    "training": {
                        "maxSteps": 15,
                        "learningRate": "0.01",
                        "batchSize": 4,
                        "maxLength": 128,
                        "seed": 1,
                    },
                }
            ],
            "gates": [{"name": "golden"}],
            "resources": {"accelerator": "CPU"},
            "storage": {"persistentVolumeClaim": "tuning"},
            "publish": [{"uri": "pvc://models/orders"}],
            **changes,
        },
    }
    return [
        make_config_map("rows", train__jsonl=train),
        make_config_map("cases", golden__jsonl=golden),
        gate,
        job,
    ]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    folder.mkdir()
    save_tiny_model(folder)
    return folder


@pytest.fixture
def tunegate(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Command:
    """A run that passed. Not to be changed."""
    command = Command(tmp_path_factory.mktemp("finished"))
    result = command("run", command.write(tiny_model))
    assert result.returncode == 0, result.stdout
    return command
