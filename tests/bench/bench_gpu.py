"""Compare training on a GPU with TRL's own commands, on the same rows in the same order: ``make bench-gpu``.
Command line arguments name the parts of the benchmark to run.

The models are Llamas with random weights: the speed does not depend on the values, and nothing is downloaded.
TRL runs in each of its ways to combine rows, and the fastest one counts. The speed of Tunegate and of TRL is
the median time per step, without the first steps. Without a GPU, small models run on the CPU: that shows that
the benchmark works, and nothing about GPUs. Prints a table, and writes build/bench/gpu.json, or
build/bench/gpu-on-a-cpu.json.
"""

import json
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from measures import Measure, run
from peers import LORA, BatchMode, PeerError, batch_modes, trl
from tuning_job import TuningJob, Turn, median_step

from support.tiny_model import make_tokenizer
from tunegate_trainer.process.device import free_memory

ON_GPU = torch.cuda.is_available()
CARD = torch.cuda.get_device_name() if ON_GPU else "CPU"
DENSE_BF16 = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
"""The floating-point operations per second of a card in bfloat16, without sparsity, from NVIDIA's data
sheets."""
SKIPPED_STEPS = 2
"""How many first steps are not timed."""
SEED = 7
KEPT, RECOMPUTED = ["--activation_checkpointing", "false"], ["--activation_checkpointing", "true"]
FALLBACKS = (
    "attention for packed examples is not used",
    "the fused LM head is not used",
    "fused kernels are not used",
    "uses no fused kernel",
)
"""Texts in the log if a kernel could not be used."""
TEXT = "order item quantity city Paris Oslo Berlin mug lamp chair please send me thanks yes no"


@dataclass(frozen=True)
class Size:
    """The sizes of a model and of its training rows."""

    name: str
    config: Mapping[str, int]
    steps: int
    batch: int
    words: int
    """Words of a long text of a row."""


VOCABULARY = {"vocab_size": 128_256} if ON_GPU else {"vocab_size": 512}
BILLION = Size(
    "1B",
    {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8}
    | {"intermediate_size": 8192},
    steps=10,
    batch=16,
    words=300,
)
EIGHT_BILLION = Size(
    "8B",
    {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8}
    | {"intermediate_size": 14_336},
    steps=8,
    batch=16,
    words=300,
)
SMALL = Size(
    "small",
    {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    | {"intermediate_size": 128},
    steps=5,
    batch=4,
    words=40,
)


def main() -> int:
    one, eight = (BILLION, EIGHT_BILLION) if ON_GPU else (SMALL, SMALL)
    adapter = {"adapter": {"type": "LoRA", "r": 16, "alpha": 32}}
    quantized = ["--load_in_4bit", "true", "--use_bnb_nested_quant", "true"]
    return run(
        "gpu" if ON_GPU else "gpu-on-a-cpu",
        {
            "lora": lambda: sft("LoRA, long answers", one, adapter, LORA, long_answer, ">= 1.0"),
            "prompts": lambda: sft("LoRA, one long prompt", one, adapter, LORA, shared_prompt, ">= 1.2"),
            "full": lambda: sft("all weights", one, {}, [], long_answer, ">= 1.0"),
            "qlora": lambda: sft(
                "QLoRA", eight, adapter | {"quantization": "NF4"}, [*LORA, *quantized], long_answer, ">= 1.0"
            ),
            "dpo": lambda: dpo(one, adapter),
            "resume": lambda: resume(one, adapter),
            "evaluation": lambda: evaluation(one, adapter),
        },
        versions=", ".join(
            [CARD, *(f"{name} {version(name)}" for name in ("torch", "transformers", "trl", "peft"))]
        ),
    )


# Models and rows


def save_model(folder: Path, size: Size) -> Path:
    """Save a Llama with random weights in bfloat16, and a tokenizer with fewer tokens than its vocabulary."""
    tokenizer = make_tokenizer()
    torch.manual_seed(SEED)
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = LlamaConfig(**size.config, **VOCABULARY, **special, max_position_embeddings=8192)
    with torch.device("cuda" if ON_GPU else "cpu"):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    del model
    free_memory()  # of this process, which keeps the GPU while others train
    return folder


def text(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(TEXT.split()) for _ in range(rng.randint(words // 2, words)))


def long_answer(rng: random.Random, size: Size) -> dict[str, str]:
    return {"prompt": text(rng, size.words // 10), "completion": text(rng, size.words)}


def shared_prompt(rng: random.Random, size: Size) -> dict[str, str]:
    """Return a row whose long instruction is the same for all rows, with a short answer."""
    instruction = text(random.Random(SEED), 2 * size.words)
    return {"prompt": f"{instruction} {text(rng, size.words // 10)}", "completion": text(rng, 8)}


def preference(rng: random.Random, size: Size) -> dict[str, str]:
    prompt = text(rng, size.words // 2)
    return {"prompt": prompt, "chosen": text(rng, size.words // 2), "rejected": text(rng, size.words // 2)}


def make_job(
    folder: Path,
    size: Size,
    stage: Mapping[str, Any],
    rows: Sequence[Mapping[str, str]],
    pairs: Sequence[Mapping[str, str]] = (),
    *,
    cases: int = 1,
    new_tokens: int = 1,
    every: str = "100%",
    batching: str = "Fixed",
) -> TuningJob:
    """Prepare a job with a minimal evaluation, unless more ``cases`` are wanted."""
    for name, lines in {"rows": rows, "pairs": pairs}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    training = {"maxSteps": size.steps, "batchSize": size.batch, "learningRate": "2e-4", "seed": SEED}
    training |= {"scheduler": "constant", "warmupFraction": "0%", "maxLength": 4096}
    data = {"sources": [{"name": "train", "uri": f"file://{folder}/rows.jsonl"}]}
    if pairs:
        data["sources"].append(
            {"name": "preference", "use": "Preference", "uri": f"file://{folder}/pairs.jsonl"}
        )
    resources: dict[str, Any] = {"accelerator": "CPU"}
    if ON_GPU:
        memory = torch.cuda.get_device_properties(0).total_memory
        resources = {"accelerator": "GPU", "gpu": {"count": 1, "memory": f"{memory >> 20}Mi"}}
    spec = {
        "model": {"uri": f"file://{save_model(folder / 'random', size)}"},
        "data": {
            "goal": "StyleOrFormat",
            "sizePolicy": "Warn",
            "heldOut": {"fraction": "10%"},
            "checks": [{"name": name, "policy": "Off"} for name in ("NearDuplicates", "Contradictions")],
            **data,
        },
        "taskMetrics": [
            {"name": "right", "type": "PreferenceAccuracy" if pairs else "ExactMatch", "min": "0%"}
        ],
        "stages": [{"name": "stage", "method": "DPO" if pairs else "SFT", **stage, "training": training}],
        "evaluation": {"every": every, "batching": batching},
        "gates": [{"name": "gate"}],
        "resources": resources,
        "storage": {"persistentVolumeClaim": "tuning"},
    }
    expect = [{"type": "contains", "value": "a"}]
    inline = [{"id": str(i), "prompt": f"order {i}", "expect": expect} for i in range(cases)]
    gate = {
        "sets": [
            {"name": "golden", "source": {"inline": inline}, "rules": [{"name": "all", "minPassRate": "0%"}]}
        ],
        "generation": {"maxNewTokens": new_tokens},
    }
    return TuningJob(folder, spec, gate, {})


# The parts


def sft(
    name: str,
    size: Size,
    stage: Mapping[str, Any],
    flags: Sequence[str],
    make: Callable[[random.Random, Size], dict[str, str]],
    target: str,
) -> Iterator[Measure]:
    rng = random.Random(SEED)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rows = [make(rng, size) for _ in range(2 * size.steps * size.batch)]
        job = make_job(folder, size, stage, rows)
        dtype = "float32" if "adapter" not in stage else job.dtype
        peers = Peers("sft", folder, size, job, shared_flags(dtype), batch_modes(folder), adapter=flags)
        yield from compare(
            f"SFT, {size.name}, {name}", size, job, peers, target, shares_prompts=make is shared_prompt
        )


def dpo(size: Size, stage: Mapping[str, Any]) -> Iterator[Measure]:
    rng = random.Random(SEED)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rows = [long_answer(rng, size) for _ in range(40)]
        pairs = [preference(rng, size) for _ in range(2 * size.steps * size.batch)]
        job = make_job(folder, size, stage, rows, pairs)
        flags = [*shared_flags(job.dtype), "--beta", "0.1", "--precompute_ref_log_probs", "true"]
        peers = Peers("dpo", folder, size, job, flags, [BatchMode("padded", ())])
        yield from compare(f"DPO, {size.name}", size, job, peers, ">= 1.0", shares_prompts=True)


class Peers:
    """TRL's command in all its ways to combine the rows of a pass. Passes have about as many tokens as those
    of Tunegate."""

    def __init__(
        self,
        command: str,
        folder: Path,
        size: Size,
        job: TuningJob,
        flags: Sequence[str],
        modes: Sequence[BatchMode],
        adapter: Sequence[str] = LORA,
    ) -> None:
        self._command, self._folder, self._job, self._adapter = command, folder, job, adapter
        self._modes = modes
        self._data = job.for_trl(folder / "trl", size.steps * size.batch)
        rows = _rows_per_pass(job, size.batch)
        passes = ["--per_device_train_batch_size", str(rows), "--gradient_accumulation_steps"]
        self._flags = [*flags, "--max_steps", str(size.steps), *passes, str(size.batch // rows)]

    def fastest(self) -> tuple[str, Turn]:
        """Run TRL in each batch mode, and return the name and the result of the fastest one. If all modes
        fail, try again without Liger's kernels, then with recomputed activations (with Liger, then without).
        """
        errors = []
        liger = [["--use_liger_kernel", "true"]] if ON_GPU and find_spec("liger_kernel") else []
        for more in [[*kernels, *memory] for memory in (KEPT, RECOMPUTED) for kernels in [*liger, []]]:
            turns: dict[str, Turn] = {}
            for mode in self._modes:
                try:
                    turns[" ".join(["trl", self._command, mode.name, *more])] = self._run(mode, more)
                except PeerError as error:
                    errors.append(error)
                    sys.stderr.write(f"{mode.name} {' '.join(more)}: {str(error).strip()[-300:]}\n")
            if turns:
                return min(turns.items(), key=lambda one: median_step([one[1]], SKIPPED_STEPS - 1))
        raise errors[0]

    def _run(self, mode: BatchMode, more: Sequence[str]) -> Turn:
        out = self._folder / "out"
        flags = [*self._flags, *mode.flags, *more]
        return trl(self._command, self._job.model, self._data, out, *flags, adapter=self._adapter)


def _rows_per_pass(job: TuningJob, batch: int) -> int:
    """Return the largest number of rows or pairs that divides a batch and has, on average, as many tokens as
    a pass may have."""
    (stage,), data = job.plan.stages, job.plan.data
    mean = stage.tokens / (data.preference or data).train.rows
    fitting = [n for n in range(1, batch + 1) if n * mean <= stage.parameters.pass_tokens]
    return max((n for n in fitting if batch % n == 0), default=1)


def compare(
    name: str, size: Size, job: TuningJob, peers: Peers, target: str, *, shares_prompts: bool = False
) -> Iterator[Measure]:
    ours = job.train()
    peer_name, theirs = peers.fastest()
    tokens = statistics.median(ours.tokens)
    fast, slow = median_step([ours], SKIPPED_STEPS), median_step([theirs], SKIPPED_STEPS - 1)
    said = f"{peer_name}: {tokens / slow:.0f} tokens/s"
    yield Measure(f"{name}: tokens a second", round(tokens / fast), "tokens/s", "", said)
    yield Measure(f"{name}: times as fast", round(slow / fast, 2), "x", target, said)
    if ours.peak and theirs.peak:
        said = f"{peer_name}: {theirs.peak / 2**30:.1f} GiB"
        yield Measure("  peak memory of tensors", round(ours.peak / 2**30, 1), "GiB", "", said)
        yield Measure("  peak memory, ratio", round(ours.peak / theirs.peak, 2), "x", "<= 1.0", said)
    memory = job.plan.stages[0].memory
    if ours.peak and memory and not shares_prompts:  # the plan does not know which passes share prompts
        apart = round(abs(memory.total / ours.peak - 1), 3)
        yield Measure(
            "  memory in the plan, relative difference", apart, "", "<= 0.15", f"{memory.total} bytes"
        )
    if ON_GPU:
        log = (job.folder / "log.txt").read_text()
        missing = [text for text in FALLBACKS if text in log]
        yield Measure("  kernels that could not be used", len(missing), "", "<= 0", "; ".join(missing))
    if size.name != SMALL.name and not shares_prompts:
        utilization = step_flops(job, tokens) / fast / card_flops()
        yield Measure("  model FLOPs utilization", round(utilization, 3), "", "", CARD)
    first, other, tolerance = ours.losses[0], theirs.losses[0], "<= 0.02"
    what = "loss"
    if job.plan.stages[0].parameters.method == "DPO":  # its first loss is ln 2 for all pairs
        what, first, other, tolerance = "gradient norm", ours.norms[0], theirs.norms[0], "<= 0.1"
    apart, said = round(abs(first / other - 1), 5), f"{first:.5g} and {other:.5g}"
    yield Measure(f"  {what} of the first step, relative difference", apart, "", tolerance, said)


def resume(size: Size, stage: Mapping[str, Any]) -> Iterator[Measure]:
    """Compare the losses of an interrupted and resumed run with those of an uninterrupted one."""
    rng = random.Random(SEED)
    with tempfile.TemporaryDirectory() as temporary:
        rows = [long_answer(rng, size) for _ in range(2 * size.steps * size.batch)]
        job = make_job(Path(temporary), size, stage, rows)
        whole, resumed = job.train(), job.train(interrupted_in=size.steps // 2)
    pairs = zip(whole.losses, resumed.losses, strict=True)
    apart = max(abs(one / other - 1) for one, other in pairs)
    yield Measure("resumed run, largest relative difference of a loss", round(apart, 6), "", "<= 0.001")


def evaluation(size: Size, stage: Mapping[str, Any]) -> Iterator[Measure]:
    """Measure evaluations of 200 cases with up to 64 new tokens, for each ``evaluation.batching``: seconds
    per evaluation, and their share of a run of 60 steps with the default ``evaluation.every``."""
    rng, cases = random.Random(SEED), 200 if ON_GPU else 8
    size = replace(size, steps=60 if ON_GPU else size.steps)
    rows = [long_answer(rng, size) for _ in range(2 * size.steps * size.batch)]
    for batching in ("Fixed", "Continuous"):
        with tempfile.TemporaryDirectory() as temporary:
            job = make_job(
                Path(temporary), size, stage, rows, cases=cases, new_tokens=64, every="20%", batching=batching
            )
            job.train()
            usage, steps = job.usage, job.plan.stages[0].checkpoint_steps
            total = cases + job.plan.data.dev.rows
        seconds = usage.evaluation_seconds / (1 + len(steps))  # with the base model
        share = usage.evaluation_seconds / (usage.evaluation_seconds + usage.training_seconds)
        name = f"evaluation of {total} cases and dev rows, {batching}"
        yield Measure(name, round(seconds, 1), "s")
        yield Measure("  share of the run time, default evaluation.every", round(share, 2), "", "<= 0.2")


def shared_flags(dtype: str) -> list[str]:
    """Return TRL's flags for the settings that Tunegate and TRL share."""
    device = ["--use_cpu", "true", "--bf16", "false"]
    if ON_GPU:
        device = ["--bf16", "true", "--optim", "adamw_torch_fused"]
    return [
        *("--seed", str(SEED), "--dtype", dtype),
        *("--learning_rate", "2e-4", "--lr_scheduler_type", "constant", "--save_strategy", "no"),
        *("--train_sampling_strategy", "sequential", "--lora_dropout", "0", "--report_to", "none"),
        *("--disable_tqdm", "true", "--logging_steps", "1", *device),
    ]


def step_flops(job: TuningJob, tokens: float) -> float:
    """Return the floating-point operations of a step with this number of ``tokens``, without attention and
    the LM head: a multiplication and an addition for each weight of a linear layer in the forward pass, as
    many for the gradients of the activations and, if all weights are trained, as many for their own."""
    shape = job.plan.model.shape
    passes = 3 if job.plan.stages[0].parameters.adapter == "None" else 2
    return 2.0 * passes * (shape.linear if shape else 0) * tokens


def card_flops() -> float:
    """Return the card's operations per second; infinity if they are not known."""
    return next((flops for name, flops in DENSE_BF16.items() if name in CARD), float("inf"))


if __name__ == "__main__":
    sys.exit(main())
