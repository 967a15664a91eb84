"""Compare the evaluation of a checkpoint with lm-eval, and the time to a verdict with TRL and lm-eval."""

import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from measures import Measure
from peers import SHARED_FLAGS, Answer, BatchMode, Harness, fastest_batch_mode, trl
from tuning_job import ENVIRONMENT, TuningJob

from support.helm import ROOT
from tunegate_trainer.evaluate.evaluate import read_cases, read_evaluation
from tunegate_trainer.evaluate.sets import GeneratedSet

EXAMPLES = ROOT / "examples"
TURNS = 2
CHECKPOINTS = 5
EQUAL_OUTPUTS = {"float32": 1.0, "bfloat16": 0.98}
"""The share of outputs that must be equal in both tools, by dtype. Numbers in bfloat16 have 8 bits, so two
tokens are sometimes equally likely, and rounding decides."""


def evaluation() -> Iterator[Measure]:
    """Compare a process of Tunegate and a process of lm-eval that evaluate the same checkpoint on the same
    cases."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        job = TuningJob.of_example(folder, EXAMPLES / "quickstart")
        job.train()
        harness = Harness(folder / "lm-eval", job.sets, job.dtype)
        ours, theirs, generating, generated = [], [], [], []
        for _ in range(TURNS):
            ours.append(job.evaluate())
            found = read_evaluation(job.evaluation())
            generating.append(found.seconds if found else 0.0)
            start = time.monotonic()
            answers, seconds = harness.evaluate(job.model, job.model, job.checkpoint())
            theirs.append(time.monotonic() - start)
            generated.append(seconds)
        outputs = {one.file.removesuffix(".jsonl"): _outputs(job, one) for one in job.sets}
        equal, cases = _equal_answers(outputs, answers)
        if job.dtype != "float32":
            exact, _ = Harness(folder / "float32", job.sets, "float32").evaluate(
                job.model, job.model, job.checkpoint()
            )
    fast, slow = statistics.median(ours), statistics.median(theirs)
    peer = f"lm-eval, hf: {slow:.1f} s"
    yield Measure(
        f"evaluation of {cases} cases in {job.dtype}: the whole process", round(fast, 1), "s", "", peer
    )
    yield Measure("evaluation: times as fast", round(slow / fast, 2), "x", ">= 1.2", peer)
    fast, slow = statistics.median(generating), statistics.median(generated)
    peer = f"lm-eval, hf: {slow:.0f} s"
    yield Measure("  generation alone: times as fast", round(slow / fast, 2), "x", "", peer)
    target = f">= {math.ceil(EQUAL_OUTPUTS[job.dtype] * cases)}"
    yield Measure("  equal outputs, of all", equal, "cases", target, f"of {cases}")
    if job.dtype != "float32":
        mine, _ = _equal_answers(outputs, exact)
        other, _ = _equal_answers(answers, exact)
        yield Measure("  outputs equal to those in float32", mine, "cases", "", f"lm-eval, hf: {other}")


def _outputs(job: TuningJob, cases: GeneratedSet) -> list[Answer]:
    found = read_cases(job.evaluation() / cases.file)
    return [Answer(case.output, case.passed) for case in found.cases] if found else []


def _equal_answers(
    ours: Mapping[str, Sequence[Answer]], theirs: Mapping[str, Sequence[Answer]]
) -> tuple[int, int]:
    """Return the number of cases for which both outputs are equal, and the number of all cases. White space
    at the ends of outputs is ignored."""
    pairs = [pair for name, answers in ours.items() for pair in zip(answers, theirs[name], strict=True)]
    return sum(mine.output.strip() == other.output.strip() for mine, other in pairs), len(pairs)


@dataclass(frozen=True)
class Spent:
    """The time that Tunegate, or TRL with lm-eval, needed."""

    wall: float
    cpu: float
    """CPU seconds of all processes together."""


class Stopwatch:
    """Measures wall time, and the CPU time of child processes that have ended."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), self._children()

    def read(self) -> Spent:
        return Spent(time.monotonic() - self._wall, self._children() - self._cpu)

    @staticmethod
    def _children() -> float:
        times = os.times()
        return times.children_user + times.children_system


def verdict(example: str, phase: str, target: str, learning_rate: str | None = None) -> Iterator[Measure]:
    """Compare the time to a verdict of ``tunegate run``, which must end in ``phase``, with that of a script.

    The script runs ``trl sft`` with its fastest flags, and then lm-eval on each checkpoint."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        manifests = folder / "manifests"
        shutil.copytree(EXAMPLES / example, manifests)
        _change(manifests / "finetunejob.yaml", learning_rate)
        job = TuningJob.of_example(folder / "job", manifests)
        ours, ended = _tunegate(folder / "ours", manifests, phase)
        theirs, mode, checkpoints = _script(folder, job)
    peer = f"trl sft, {mode.name}, then lm-eval {checkpoints} times: {theirs.wall:.0f} s"
    example += f" with learning rate {learning_rate}" if learning_rate else ""
    yield Measure(f"{example} in {job.dtype}, to {ended}: wall time", round(ours.wall), "s", "", peer)
    yield Measure(f"{example}: share of wall time", round(ours.wall / theirs.wall, 2), "x", target, peer)
    peer = f"trl sft, then lm-eval: {theirs.cpu:.0f} s of CPU"
    yield Measure(f"{example}: share of CPU time", round(ours.cpu / theirs.cpu, 2), "x", target, peer)


def _change(manifest: Path, learning_rate: str | None) -> None:
    """Set the number of checkpoints of a job with one stage, and its learning rate if one is given."""
    job = yaml.safe_load(manifest.read_text())
    job["spec"]["evaluation"]["every"] = f"{100 / CHECKPOINTS:g}%"
    if learning_rate:
        (stage,) = job["spec"]["stages"]
        stage["training"]["learningRate"] = learning_rate
    manifest.write_text(json.dumps(job))  # YAML would write "5e-4" without quotes, which is read as a number


def _tunegate(folder: Path, manifests: Path, phase: str) -> tuple[Spent, str]:
    """Time ``tunegate run``: data preparation, training with the stop rule, final gate, publishing,
    report."""
    folder.mkdir()
    watch = Stopwatch()
    with (folder / "log").open("w") as log:
        command = [sys.executable, "-m", "tunegate_client.cli.main", "run", str(manifests)]
        subprocess.run(command, cwd=folder, env=os.environ | ENVIRONMENT, stdout=log, stderr=log, check=False)
    spent = watch.read()
    (path,) = folder.glob("runs/*/status.yaml")
    status = yaml.safe_load(path.read_text())["status"]
    if status["phase"] != phase:
        raise SystemExit(f"{status['phase']}, not {phase}:\n{(folder / 'log').read_text()[-3000:]}")
    if phase == "Stopped":
        return spent, f"Stopped at step {status['stop']['step']} of {status['progress']['totalSteps']}"
    return spent, phase


def _script(folder: Path, job: TuningJob) -> tuple[Spent, BatchMode, int]:
    """Time a script that runs TRL and lm-eval with the same rows, steps, checkpoints and cases as Tunegate.

    Also returns TRL's batch mode and the number of checkpoints."""
    stage = job.plan.stages[0]
    parameters = stage.parameters
    data = job.for_trl(folder / "trl", stage.total_steps * parameters.batch_size)
    harness = Harness(folder / "lm-eval", job.sets, job.dtype)
    out = folder / "out"
    flags = [
        *(*SHARED_FLAGS, "--dtype", job.dtype, "--seed", str(parameters.seed)),
        *("--max_steps", str(stage.total_steps), "--learning_rate", str(parameters.learning_rate)),
        *("--per_device_train_batch_size", str(parameters.batch_size)),
        *("--lr_scheduler_type", parameters.scheduler, "--warmup_steps", str(parameters.warmup_steps)),
    ]
    mode = fastest_batch_mode(folder, job.model, data, *flags)
    save = ["--save_strategy", "steps", "--save_steps", str(stage.checkpoint_steps[0])]
    watch = Stopwatch()
    trl("sft", job.model, data, out, *flags, *mode.flags, *save)
    checkpoints = sorted(out.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    # TRL saves at even intervals and at the end: one checkpoint less if intervals differ, to its own
    # advantage.
    if not len(stage.checkpoint_steps) - 1 <= len(checkpoints) <= len(stage.checkpoint_steps):
        raise SystemExit(f"not {stage.checkpoint_steps}: {[path.name for path in checkpoints]}")
    for checkpoint in checkpoints:
        harness.evaluate(job.model, job.model, checkpoint)
    return watch.read(), mode, len(checkpoints)
