"""Run the examples, and print what their pages report.

Each run is the ``tunegate`` command on a copy of the example. Those that are about the stop rule run with
several seeds, and the regression also without its fault in the learning rate. Everything lies below
build/examples; what was measured is printed, and written to build/examples.json. Fails if a run ends in
another phase than the example promises, or if the metric that it is about does not rise.
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
    """An example as it is run, and the phase in which it should end."""

    name: str
    folder: str
    job: str
    phase: str
    learning_rate: str | None = None
    seeds: int = 1
    """How many of the seeds it runs with."""
    rises: str | None = None
    """A task metric that the published checkpoint has more of than the model its stage started from."""


VARIANTS = (
    Variant("quickstart", "quickstart", "order-extractor", "Succeeded", seeds=3),
    Variant("regression", "regression", "order-extractor-regressing", "Stopped", seeds=3),
    Variant("regression-mended", "regression", "order-extractor-regressing", "Succeeded", "5e-4", seeds=3),
    Variant("sft-lora", "sft-lora", "order-desk", "Succeeded"),
    Variant("qlora", "qlora", "order-extractor-qlora", "Succeeded"),
    Variant("full", "full", "order-extractor-full", "Succeeded"),
    Variant("two-pods", "two-pods", "order-extractor-two-pods", "Succeeded"),
    Variant("dpo-after-sft", "dpo-after-sft", "reply-writer", "Succeeded", rises="preference_accuracy"),
)


@dataclass(frozen=True)
class Point:
    """What a starting model or a checkpoint scored."""

    stage: str
    step: int
    golden: dict[str, str]
    """Golden cases that passed, of all, by gate."""
    task: dict[str, str]
    """Task metrics on dev rows."""

    def __str__(self) -> str:
        golden = ", ".join(self.golden.values())
        return f"{self.stage} {self.step}: {golden}; {', '.join(f'{k} {v}' for k, v in self.task.items())}"


@dataclass(frozen=True)
class Row:
    """What one run came to."""

    example: str
    seed: int
    phase: str
    ended: str
    """What decided: the final gate's golden rates and metrics, or where training was stopped."""
    points: list[Point]
    best: str
    """The checkpoint that was published, or would be: STAGE STEP."""
    seconds: float

    @property
    def is_as_promised(self) -> bool:
        variant = next(v for v in VARIANTS if v.name == self.example)
        if self.phase != variant.phase or variant.rises is None:
            return self.phase == variant.phase
        stage = self.best.split()[0]
        before, after = (
            next(p for p in self.points if f"{p.stage} {p.step}" == which)
            for which in (f"{stage} 0", self.best)
        )
        return float(after.task[variant.rises]) > float(before.task[variant.rises])


def main() -> int:
    """Returns 1 if an example did not end as it should."""
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
    return 0 if all(row.is_as_promised for row in rows) else 1


def run(variant: Variant, seed: int) -> Row:
    """One example with one seed, from nothing."""
    folder = BUILD / f"{variant.name}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    manifests = folder / "manifests"
    shutil.copytree(ROOT / "examples" / variant.folder, manifests)
    job = manifests / "finetunejob.yaml"
    text = re.sub(r"seed: \d+", f"seed: {seed}", job.read_text())
    if variant.learning_rate:
        text = re.sub(r'learningRate: "[^"]+"', f'learningRate: "{variant.learning_rate}"', text)
    job.write_text(text)
    command = [sys.executable, "-m", "tunegate_operator.cli.main", "run", str(manifests)]
    started = time.monotonic()
    with (folder / "log").open("w") as log:
        subprocess.run(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, check=False)
    seconds = time.monotonic() - started
    status = yaml.safe_load((folder / "runs" / variant.job / "status.yaml").read_text())["status"]
    best = status.get("bestCheckpoint", {})
    return Row(
        example=variant.name,
        seed=seed,
        phase=status["phase"],
        ended=_ended(status),
        points=[
            Point(
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
