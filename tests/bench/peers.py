"""The tools with which Tunegate is compared: TRL's own commands, and the evaluation tools lm-eval and
inspect_ai."""

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
from tunegate_api.cases.expectations import TextExpectation
from tunegate_api.cases.golden import GoldenCase
from tunegate_trainer.evaluate.sets import Case, GeneratedSet

LM_EVAL = ROOT / "build" / "lm-eval" / "bin" / "lm-eval"
INSPECT_AI = ROOT / "build" / "inspect-ai" / "bin" / "inspect"
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
PEAK = Path(__file__).with_name("peak")
"""The folder of a module that prints the peak memory of a process."""


def lm_eval_version() -> str:
    return f"lm-eval {_version(LM_EVAL, 'lm-eval')}"


def inspect_version() -> str:
    return f"inspect_ai {_version(INSPECT_AI, 'inspect_ai')}"


def _version(command: Path, package: str) -> str:
    asked = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run(
        [command.with_name("python"), "-c", asked], capture_output=True, text=True, check=True
    ).stdout.strip()


@dataclass(frozen=True)
class BatchMode:
    """A way in which ``trl sft`` combines the rows of a step into a batch."""

    name: str
    flags: tuple[str, ...]


def fastest_batch_mode(
    folder: Path, model: Path, data: Path, *flags: str, adapter: Sequence[str] = LORA
) -> BatchMode:
    """Return the batch mode with the fastest steps on this machine, measured in a short trial. Modes that
    fail, such as for lack of memory, are left out."""
    trial = ["--max_steps", str(TRIAL_STEPS), "--save_strategy", "no"]
    seconds: dict[BatchMode, float] = {}
    errors = []
    for mode in batch_modes(folder):
        try:
            turn = trl("sft", model, data, folder / "trial", *flags, *mode.flags, *trial, adapter=adapter)
        except PeerError as error:
            errors.append(error)
        else:
            seconds[mode] = median_step([turn], 1)
    if not seconds:
        raise errors[0]
    return min(seconds, key=lambda mode: seconds[mode])


def batch_modes(folder: Path) -> list[BatchMode]:
    """Return the batch modes of ``trl sft``.

    Packing is left out: it combines several rows into one, so its steps have more rows than ours.
    """
    return [_batch_mode(folder, "padding-free", "padding_free: true\n"), _batch_mode(folder, "padded", "")]


def _batch_mode(folder: Path, name: str, setting: str) -> BatchMode:
    path = folder / f"{name}.yaml"
    path.write_text(f"{setting}completion_only_loss: true\nmax_length: null\n")  # a flag cannot set null
    return BatchMode(name, ("--config", str(path)))


class PeerError(SystemExit):
    """A tool failed. The text is the end of its output."""


def trl(command: str, model: Path, data: Path, out: Path, *flags: str, adapter: Sequence[str] = LORA) -> Turn:
    """Run TRL's command on ``train.jsonl`` in the folder ``data``. Returns the losses and times of the
    steps. Raises :class:`PeerError` if the command fails."""
    turn = Turn()
    paths = [str(PEAK), *filter(None, [os.environ.get("PYTHONPATH")])]
    start = last = time.monotonic()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "trl.cli.main", command, "--model_name_or_path", str(model)),
            *("--dataset_name", str(data), "--output_dir", str(out), *adapter, *flags),
        ],
        env=os.environ | ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    log = []
    for line in process.stdout or ():
        log.append(line)
        if line.startswith("{'peak'"):
            turn.peak = max(turn.peak, ast.literal_eval(line)["peak"])
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
        raise PeerError("".join(log)[-3000:])
    return turn


@dataclass(frozen=True)
class Answer:
    """The output of a peer for one case, and whether the case passed by the peer's own scorer."""

    output: str
    passed: bool


def contained(case: Case) -> str:
    """Return the text that the output of a golden case must contain, or an empty string if there is none."""
    expect = case.source.expect if isinstance(case.source, GoldenCase) else []
    return next((e.value for e in expect if isinstance(e, TextExpectation) and e.type == "contains"), "")


_PASSED = """
def passed(doc, results):
    return {"passed": float(doc["target"] in results[0])}
"""


class Harness:
    """lm-eval's tasks, with the cases and settings with which Tunegate evaluates a checkpoint."""

    def __init__(self, folder: Path, sets: Sequence[GeneratedSet], dtype: str) -> None:
        self.folder, self.dtype = folder, dtype
        folder.mkdir()
        (folder / "contains.py").write_text(_PASSED)
        self.batch_size = max(one.generation.batch_size for one in sets)
        self.tasks = [self._write_task(one) for one in sets]

    def _write_task(self, cases: GeneratedSet) -> str:
        name = cases.file.removesuffix(".jsonl")
        docs = self.folder / f"{name}-docs.jsonl"
        lines = [{"prompt": case.prompt, "target": contained(case)} for case in cases.cases]
        docs.write_text("".join(json.dumps(line) + "\n" for line in lines))
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
                "max_gen_toks": cases.generation.max_new_tokens,
                "do_sample": False,
            },
            "metric_list": [{"metric": "passed", "aggregation": "mean", "higher_is_better": True}],
        }
        text = f"{yaml.safe_dump(task)}process_results: !function contains.passed\n"
        (self.folder / f"{name}.yaml").write_text(text)
        return name

    def evaluate(
        self, model: Path, tokenizer: Path, adapter: Path | None = None
    ) -> tuple[dict[str, list[Answer]], float]:
        """Return the answers of the model, or of its adapter, to the cases of each set, and the seconds that
        generation needed."""
        out = self.folder / "out" / (adapter or model).name
        log = self.folder / "log.txt"
        peft = f",peft={adapter}" if adapter else ""
        command = [
            *(str(LM_EVAL), "run", "--model", "hf", "--device", "cpu", "--batch_size", str(self.batch_size)),
            *("--model_args", f"pretrained={model},tokenizer={tokenizer}{peft},dtype={self.dtype}"),
            *("--tasks", *self.tasks, "--include_path", str(self.folder)),
            *("--log_samples", "--output_path", str(out)),
        ]
        _run(command, log)
        answers = {}
        for name in self.tasks:
            found = max(out.rglob(f"samples_{name}_*.jsonl"), key=lambda path: path.stat().st_mtime)
            lines = sorted(map(json.loads, found.read_text().splitlines()), key=lambda line: line["doc_id"])
            answers[name] = [Answer(line["resps"][0][0], line["passed"] == 1) for line in lines]
        return answers, _generation_seconds(log.read_text())


_INSPECT = """
import json, sys
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import generate

with open(sys.argv[1]) as file:
    asked = json.load(file)
dataset = [Sample(**sample) for sample in asked["samples"]]
task = Task(dataset=dataset, solver=generate(), scorer=includes(ignore_case=False))
(log,) = eval(task, model="hf/local", display="none", **asked["arguments"])
if log.status != "success":
    raise SystemExit(str(log.error))
found = sorted(log.samples, key=lambda sample: sample.id)
answers = [(each.output.completion, each.scores["includes"].value == "C") for each in found]
with open(sys.argv[2], "w") as file:
    json.dump(answers, file)
"""


def inspect_answers(
    folder: Path, cases: GeneratedSet, model: Path, tokenizer: Path, dtype: str
) -> list[Answer]:
    """Return the model's answers to the cases from inspect_ai with its ``hf`` provider, which gets the same
    rendered prompts and batch size as Tunegate."""
    folder.mkdir(exist_ok=True)
    settings = cases.generation
    arguments = {
        "model_args": {
            "model_path": str(model),
            "tokenizer_path": str(tokenizer),
            "device": "cpu",
            "dtype": dtype,
            "do_sample": False,
            "chat_template": "{{ messages[0].content }}",
        },
        "max_tokens": settings.max_new_tokens,
        "max_connections": settings.batch_size,
        "log_dir": str(folder / "logs"),
    }
    samples = [
        {"id": number, "input": case.prompt, "target": contained(case)}
        for number, case in enumerate(cases.cases)
    ]
    asked, found = folder / "asked.json", folder / "found.json"
    asked.write_text(json.dumps({"samples": samples, "arguments": arguments}))
    command = [str(INSPECT_AI.with_name("python")), "-c", _INSPECT, str(asked), str(found)]
    _run(command, folder / "log.txt")
    return [Answer(*each) for each in json.loads(found.read_text())]


def _run(command: Sequence[str], log: Path) -> None:
    """Run a command of a peer. Its output goes to ``log``, and is printed if it fails."""
    with log.open("w") as output:
        done = subprocess.run(
            command, env=os.environ | ENVIRONMENT, stdout=output, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode:
        raise SystemExit(log.read_text()[-3000:])


def _generation_seconds(log: str) -> float:
    """Return the seconds that lm-eval's progress bar shows last: ``… 64/64 [00:24<00:00, …``."""
    minutes, seconds = re.findall(r"generate_until requests: 100%.*?\[(\d+):(\d+)<", log)[-1]
    return 60 * int(minutes) + int(seconds)
