"""The tools with which Tunegate is compared: TRL's own commands, and the evaluation harness lm-eval."""

import ast
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tuning_job import ENVIRONMENT, Turn, median_step

from support.helm import ROOT
from tunegate_trainer.evaluate.sets import GeneratedSet

LM_EVAL = ROOT / "build" / "lm-eval" / "bin" / "lm-eval"
LORA = ["--use_peft", "true", "--lora_r", "16", "--lora_alpha", "32", "--lora_target_modules", "all-linear"]
SHARED_FLAGS = [
    *("--use_cpu", "true", "--bf16", "false", "--activation_checkpointing", "false"),
    *("--train_sampling_strategy", "sequential", "--lora_dropout", "0", "--report_to", "none"),
    *("--disable_tqdm", "true", "--logging_steps", "1"),
]
"""TRL's flags for the settings that Tunegate and TRL share, except ``--dtype`` of the frozen weights."""
DEFAULTS = ["--use_cpu", "true", "--report_to", "none", "--disable_tqdm", "true", "--logging_steps", "1"]
"""Flags for TRL with its defaults. They are needed on a machine without a GPU, and for measuring time."""
TRIAL_STEPS = 6


def lm_eval_version() -> str:
    asked = "from importlib.metadata import version; print(version('lm-eval'))"
    output = subprocess.run(
        [LM_EVAL.with_name("python"), "-c", asked], capture_output=True, text=True, check=True
    )
    return f"lm-eval {output.stdout.strip()}"


@dataclass(frozen=True)
class BatchMode:
    """A way in which ``trl sft`` combines the rows of a step into a batch."""

    name: str
    flags: list[str]


def fastest_batch_mode(folder: Path, model: Path, data: Path, *flags: str) -> BatchMode:
    """Return the batch mode with the fastest steps on this machine, measured in a short trial.

    Packing is not compared: it combines several rows into one, so its steps have more rows than ours.
    """
    modes = [_batch_mode(folder, "padding-free", "padding_free: true\n"), _batch_mode(folder, "padded", "")]
    trial = ["--max_steps", str(TRIAL_STEPS), "--save_strategy", "no"]

    def seconds(mode: BatchMode) -> float:
        return median_step([trl("sft", model, data, folder / "trial", *flags, *mode.flags, *trial)], 1)

    return min(modes, key=seconds)


def _batch_mode(folder: Path, name: str, setting: str) -> BatchMode:
    path = folder / f"{name}.yaml"
    path.write_text(f"{setting}completion_only_loss: true\nmax_length: null\n")  # a flag cannot set null
    return BatchMode(name, ["--config", str(path)])


def trl(command: str, model: Path, data: Path, out: Path, *flags: str) -> Turn:
    """Run TRL's command on ``train.jsonl`` in the folder ``data``. Returns the losses and times of the
    steps."""
    turn = Turn()
    start = last = time.monotonic()
    process = subprocess.Popen(
        [
            *(str(Path(sys.executable).with_name("trl")), command, "--model_name_or_path", str(model)),
            *("--dataset_name", str(data), "--output_dir", str(out), *LORA, *flags),
        ],
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
            output = ast.literal_eval(line)
            turn.losses.append(float(output["loss"]))
            turn.norms.append(float(output["grad_norm"]))
            if turn.first_step:
                turn.seconds.append(now - last)
            else:
                turn.first_step = now - start
            last = now
    if process.wait():
        raise SystemExit("".join(log)[-3000:])
    return turn


class Harness:
    """lm-eval's tasks, with the cases and settings with which Tunegate evaluates a checkpoint."""

    def __init__(self, folder: Path, sets: Sequence[GeneratedSet], dtype: str) -> None:
        self.folder, self.dtype = folder, dtype
        folder.mkdir()
        self.batch_size = max(one.generation.batch_size for one in sets)
        self.prompts = {one.file.removesuffix(".jsonl"): [case.prompt for case in one.cases] for one in sets}
        for one in sets:
            self._write_task(one.file.removesuffix(".jsonl"), one.generation.max_new_tokens)

    def _write_task(self, name: str, max_new_tokens: int) -> None:
        docs = self.folder / f"{name}-docs.jsonl"
        docs.write_text(
            "".join(json.dumps({"prompt": text, "target": ""}) + "\n" for text in self.prompts[name])
        )
        task: dict[str, Any] = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(docs)}},
            "test_split": "test",
            "output_type": "generate_until",
            "doc_to_text": "{{prompt}}",
            "doc_to_target": "{{target}}",
            "target_delimiter": "",
            "generation_kwargs": {
                "until": ["<|im_end|>"],
                "max_gen_toks": max_new_tokens,
                "do_sample": False,
            },
            "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        }
        (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(task))

    def evaluate(self, model: Path, adapter: Path) -> tuple[dict[str, list[str]], float]:
        """Return the model's answers to the cases of each set, and the seconds that generation needed."""
        out = self.folder / "out" / adapter.name
        log = self.folder / "log.txt"
        command = [
            *(str(LM_EVAL), "run", "--model", "hf", "--device", "cpu", "--batch_size", str(self.batch_size)),
            *("--model_args", f"pretrained={model},peft={adapter},dtype={self.dtype}"),
            *("--tasks", *self.prompts, "--include_path", str(self.folder)),
            *("--log_samples", "--output_path", str(out)),
        ]
        with log.open("w") as output:
            done = subprocess.run(
                command, env=os.environ | ENVIRONMENT, stdout=output, stderr=subprocess.STDOUT, check=False
            )
        if done.returncode:
            raise SystemExit(log.read_text()[-3000:])
        answers = {}
        for name in self.prompts:
            found = max(out.rglob(f"samples_{name}_*.jsonl"), key=lambda path: path.stat().st_mtime)
            lines = sorted(map(json.loads, found.read_text().splitlines()), key=lambda line: line["doc_id"])
            answers[name] = [line["resps"][0][0] for line in lines]
        return answers, _generation_seconds(log.read_text())


def _generation_seconds(log: str) -> float:
    """Return the seconds that lm-eval's progress bar shows last: ``… 64/64 [00:24<00:00, …``."""
    minutes, seconds = re.findall(r"generate_until requests: 100%.*?\[(\d+):(\d+)<", log)[-1]
    return 60 * int(minutes) + int(seconds)
