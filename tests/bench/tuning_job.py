"""A job whose roles run without an operator, so that the benchmarks can time each role."""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tunegate_api.cases.case_lines import inline_text
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.plan import Plan
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Role
from tunegate_api.contract.report import Report, Usage
from tunegate_api.contract.request import GateRequest, Request
from tunegate_api.contract.workspace import PAIRS_PREFIX, Workspace
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_api.v1alpha2.finetunejob import FineTuneJobSpec
from tunegate_trainer.evaluate.golden_sets import golden_sets
from tunegate_trainer.evaluate.sets import GeneratedSet, held_out_sets
from tunegate_trainer.process.context import Context, Options
from tunegate_trainer.tokens.answers import example_tokens
from tunegate_trainer.tokens.chat import load_tokenizer
from tunegate_trainer.tokens.rows import read_pairs, read_rows, text_answer
from tunegate_trainer.train.dataset import training_order

UID = "0f7c9c1e-0000-4000-8000-00000000be7c"
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYTHONUNBUFFERED": "1",  # the arrival of a step's line is its time
    "OMP_NUM_THREADS": str(os.cpu_count()),  # accelerate would make it 1
    "TOKENIZERS_PARALLELISM": "false",
    "PYTORCH_ALLOC_CONF": "expandable_segments:True",  # as the train role sets it
}


@dataclass
class Turn:
    """The losses and times of Tunegate or of TRL in one turn."""

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """Seconds that each optimizer step needed. For TRL, the first step is missing."""
    first_step: float = 0.0
    """Seconds from the start of the process to the end of its first optimizer step."""
    reference: float = 0.0
    """Seconds that computing DPO's reference log-probabilities needed, before the first optimizer step."""
    tokens: list[int] = field(default_factory=list)
    """Tokens of each optimizer step, including prompts. Empty for TRL."""
    peak: int = 0
    """Peak memory of tensors on the GPU in bytes; 0 on a CPU."""


def median_step(turns: Sequence[Turn], skipped: int) -> float:
    """Return the median seconds per step, without the first ``skipped`` steps of each turn."""
    return statistics.median(second for turn in turns for second in turn.seconds[skipped:])


class TuningJob:
    """A root folder for the trainer's roles in which the data role has run. The job has one stage and one
    gate."""

    def __init__(
        self,
        folder: Path,
        spec: Mapping[str, Any],
        gate: Mapping[str, Any],
        config_maps: Mapping[str, Mapping[str, str]],
    ) -> None:
        self.folder = folder
        golden = gate["golden"]
        request = Request(
            name="bench",
            namespace="default",
            uid=UID,
            spec=FineTuneJobSpec.model_validate(spec),
            gates=[
                GateRequest(
                    name=spec["gates"][0]["name"],
                    spec=EvalGateSpec.model_validate(gate),
                    golden_sha256=golden.get("sha256")
                    or sha256_text(inline_text(golden["source"]["inline"])),
                )
            ],
        )
        self._write("request/request.json", request.model_dump_json(by_alias=True))
        for name, files in config_maps.items():
            for key, text in files.items():
                self._write(f"inputs/{name}/{key}", text)
        self._wait(self._start("data"))
        self.plan = Plan.model_validate_json((self.data / "plan.json").read_bytes())
        self._write("plan/plan.json", (self.data / "plan.json").read_text())
        self.model = folder / "workspace" / Workspace.base_model(self.plan.model.digest)

    @classmethod
    def of_example(cls, folder: Path, example: Path) -> "TuningJob":
        """Build the job of an example's manifests."""
        objects = [o for path in sorted(example.glob("*.yaml")) for o in yaml.safe_load_all(path.read_text())]
        of_kind = {o["kind"]: o for o in objects}
        config_maps = {o["metadata"]["name"]: o["data"] for o in objects if o["kind"] == "ConfigMap"}
        return cls(folder, of_kind["FineTuneJob"]["spec"], of_kind["EvalGate"]["spec"], config_maps)

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    @property
    def data(self) -> Path:
        return self.workspace / Workspace(UID).data

    @property
    def stage(self) -> str:
        return self.plan.stages[0].name

    @property
    def dtype(self) -> str:
        """Return the dtype of the frozen weights."""
        return self.plan.stages[0].parameters.dtype

    def checkpoint(self) -> Path:
        """Return the folder of the last checkpoint."""
        return self.workspace / Workspace(UID).checkpoint(self.stage, self.plan.stages[0].total_steps)

    def evaluation(self) -> Path:
        """Return the folder with the evaluation of the last checkpoint."""
        return self.workspace / Workspace(UID).evaluation(self.stage, self.plan.stages[0].total_steps)

    @cached_property
    def sets(self) -> list[GeneratedSet]:
        """The sets on which a checkpoint is evaluated: the golden set and held-out rows."""
        context = Context(Role.TRAIN, root=self.folder)
        tokenizer = load_tokenizer(self.model)
        sets = [
            *golden_sets(context, tokenizer, context.request.gates),
            *held_out_sets(context, tokenizer, "dev"),
        ]
        return [one for one in sets if isinstance(one, GeneratedSet)]

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        environment = os.environ | ENVIRONMENT | {ROOT_VARIABLE: str(self.folder)}
        with (self.folder / "log.txt").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tunegate_trainer", *arguments],
                env=environment,
                stdout=log,
                stderr=log,
            )

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        if process.wait():
            raise SystemExit((self.folder / "log.txt").read_text()[-3000:])

    def train(self, interrupted_in: int | None = None) -> Turn:
        """Train from the start again. The first training also evaluates the baseline; later ones use the
        cached result. With ``interrupted_in``, SIGTERM interrupts the training in this step, and another
        process resumes it."""
        trained = self.workspace / Workspace(UID).stage(self.stage)
        for folder in (trained, self.evaluation().parent):
            shutil.rmtree(folder, ignore_errors=True)
        path = trained / "losses.jsonl"
        turn = Turn()
        start = time.monotonic()
        process = self._start("train", "--stage", self.stage)
        while process.poll() is None:
            steps = path.read_text().count("\n") if path.exists() else 0
            if steps and not turn.first_step:
                turn.first_step = time.monotonic() - start
            if interrupted_in and steps >= interrupted_in - 1:
                process.send_signal(signal.SIGTERM)
                if process.wait() != ExitCode.INTERRUPTED:
                    break
                process, interrupted_in = self._start("train", "--stage", self.stage), None
            time.sleep(0.02)
        self._wait(process)
        if interrupted_in:
            raise SystemExit("the training ended before it was interrupted")
        turn.peak = self.usage.peak_gpu_bytes
        for line in map(json.loads, path.read_text().splitlines()):
            turn.losses.append(line["loss"])
            turn.norms.append(line["grad_norm"])
            turn.seconds.append(line["seconds"])
            turn.tokens.append(line["tokens"])
        said = [
            line for line in (self.folder / "log.txt").read_text().splitlines() if "reference of " in line
        ]
        turn.reference = float(said[-1].split(" in ")[1].split()[0]) if said else 0.0
        return turn

    @property
    def usage(self) -> Usage:
        """What the last training used, from its report."""
        context = Context(Role.TRAIN, options=Options(stage=self.stage), root=self.folder)
        report = Report.model_validate_json(context.report_file.read_bytes())
        return report.usage or Usage()

    def evaluate(self) -> float:
        """Evaluate the last checkpoint again, like a pod that finds a checkpoint without an evaluation.

        Returns how many seconds the process ran.
        """
        shutil.rmtree(self.evaluation())
        start = time.monotonic()
        self._wait(self._start("train", "--stage", self.stage))
        return time.monotonic() - start

    def for_trl(self, folder: Path, rows: int) -> Path:
        """Write the first ``rows`` examples in training order, as the texts of the trainer's tokens. Returns
        the folder."""
        tokenizer = load_tokenizer(self.model)
        seed = self.plan.stages[0].parameters.seed
        lines: list[dict[str, str]] = []
        if self.plan.data.preference:
            pairs = read_pairs(self.data / f"{PAIRS_PREFIX}train.jsonl")
            for i in training_order(len(pairs), rows, seed):
                prompt, chosen = example_tokens(tokenizer, pairs[i].prompt, text_answer(pairs[i].chosen))
                _, rejected = example_tokens(tokenizer, pairs[i].prompt, text_answer(pairs[i].rejected))
                texts = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
                lines.append({name: tokenizer.decode(ids) for name, ids in texts.items()})
        else:
            learned = read_rows(self.data / "train.jsonl")
            for i in training_order(len(learned), rows, seed):
                prompt, completion = example_tokens(tokenizer, learned[i].prompt, learned[i].answer)
                lines.append({"prompt": tokenizer.decode(prompt), "completion": tokenizer.decode(completion)})
        folder.mkdir(exist_ok=True)
        (folder / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return folder
