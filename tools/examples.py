"""Run the examples, and print the results that their pages report.

Each run is the ``tunegate`` command on a copy of the example in build/examples. Examples of the stop rule run
with several seeds, and the regression also with a lower learning rate that does not regress. The results are
printed and written to build/examples.json. Fails if a run ends in another phase than expected, or if its
metric does not improve.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build" / "examples"
SEEDS = (7, 8, 9)


@dataclass(frozen=True)
class Variant:
    """A way to run an example, and the phase in which it should end."""

    name: str
    folder: str
    job: str
    phase: str
    learning_rate: str | None = None
    seeds: int = 1
    """Number of seeds with which the example runs."""
    improves: str | None = None
    """A task metric in which the published checkpoint must be better than the starting model of its stage."""


VARIANTS = (
    Variant("quickstart", "quickstart", "order-extractor", "Succeeded", seeds=3),
    Variant("regression", "regression", "order-extractor-regressing", "Stopped", seeds=3),
    Variant("regression-fixed", "regression", "order-extractor-regressing", "Succeeded", "5e-4", seeds=3),
    Variant("sft-lora", "sft-lora", "order-desk", "Succeeded"),
    Variant("qlora", "qlora", "order-extractor-qlora", "Succeeded"),
    Variant("full", "full", "order-extractor-full", "Succeeded"),
    Variant("two-pods", "two-pods", "order-extractor-two-pods", "Succeeded"),
    Variant("classification", "classification", "error-classifier", "Succeeded", improves="f1"),
    Variant("safety", "safety", "three-steps-assistant", "Failed", improves="rouge_l"),
    Variant("dpo-after-sft", "dpo-after-sft", "reply-writer", "Succeeded", improves="preference_accuracy"),
)


@dataclass(frozen=True)
class Scores:
    """The evaluation results of a starting model or a checkpoint."""

    stage: str
    step: int
    golden: dict[str, str]
    """Maps each gate to the number of golden cases that passed and of all golden cases, as ``96/100``."""
    task: dict[str, str]
    """Values of the task metrics on dev rows."""

    def __str__(self) -> str:
        golden = ", ".join(self.golden.values())
        return f"{self.stage} {self.step}: {golden}; {', '.join(f'{k} {v}' for k, v in self.task.items())}"


@dataclass(frozen=True)
class RunResult:
    """The result of one run."""

    example: str
    seed: int
    phase: str
    ended: str
    """How the run ended: the golden pass rates and task metrics of the final gate, or the step at which
    training stopped."""
    points: list[Scores]
    best: str
    """The best checkpoint: STAGE STEP."""
    seconds: float

    @property
    def is_as_expected(self) -> bool:
        variant = next(v for v in VARIANTS if v.name == self.example)
        if self.phase != variant.phase or variant.improves is None:
            return self.phase == variant.phase
        stage = self.best.split()[0]
        before, after = (
            next(p for p in self.points if f"{p.stage} {p.step}" == which)
            for which in (f"{stage} 0", self.best)
        )
        return float(after.task[variant.improves]) > float(before.task[variant.improves])


def main() -> int:
    """Run the examples. Return 1 if an example did not end as expected."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--only", choices=[v.name for v in VARIANTS], nargs="+")
    args = parser.parse_args()
    rows = []
    for variant in VARIANTS:
        for seed in args.seeds[: variant.seeds] if variant.name in (args.only or [variant.name]) else ():
            row = run(variant, seed)
            rows.append(row)
            print(
                f"{row.example}, seed {row.seed}: {row.phase}, {row.ended}, {row.seconds:.0f} s", flush=True
            )
            print(*(f"  {point}" for point in row.points), sep="\n", flush=True)
    (ROOT / "build" / "examples.json").write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n")
    return 0 if all(row.is_as_expected for row in rows) else 1


def run(variant: Variant, seed: int) -> RunResult:
    """Run one example with one seed in an empty folder."""
    folder = BUILD / f"{variant.name}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    manifests = folder / "manifests"
    shutil.copytree(ROOT / "examples" / variant.folder, manifests)
    job = manifests / "finetunejob.yaml"
    text = re.sub(r"seed: \d+", f"seed: {seed}", job.read_text())
    if variant.learning_rate:
        text = re.sub(r'learningRate: "[^"]+"', f'learningRate: "{variant.learning_rate}"', text)
    job.write_text(text)
    command = [sys.executable, "-m", "tunegate_client.cli.main", "run", str(manifests)]
    started = time.monotonic()
    with (folder / "log").open("w") as log:
        subprocess.run(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, check=False)
    seconds = time.monotonic() - started
    status = yaml.safe_load((folder / "runs" / variant.job / "status.yaml").read_text())["status"]
    best = status.get("bestCheckpoint", {})
    return RunResult(
        example=variant.name,
        seed=seed,
        phase=status["phase"],
        ended=_ended(status),
        points=[
            Scores(
                stage=point["stage"],
                step=point["step"],
                golden=_golden(point["gates"]),
                task=point.get("task", {}),
            )
            for point in (*status["start"], *status["checkpoints"])
        ],
        best=f"{best.get('stage')} {best.get('step')}",
        seconds=round(seconds, 1),
    )


def _golden(gates: list[dict[str, Any]]) -> dict[str, str]:
    return {gate["name"]: f"{gate['golden']['passed']}/{gate['golden']['total']}" for gate in gates}


def _ended(status: dict[str, Any]) -> str:
    if "stop" in status:
        return f"{status['stop']['reason']} at step {status['stop']['step']}"
    if "final" in status:
        final = status["final"]
        return f"final {', '.join(_golden(final['gates']).values())}, {final.get('task', {})}"
    return str(status.get("failure", {}).get("reason", ""))


if __name__ == "__main__":
    sys.exit(main())
