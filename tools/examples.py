"""Run the examples with several seeds, and print what their pages report.

Each run is the ``tunegate`` command on a copy of the example that differs in its seed, and for the regression
without its fault in the learning rate. Everything lies below build/examples; a table is printed, and the same
as JSON written to build/examples.json. Fails if a run ends in another phase than the example promises.
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


VARIANTS = (
    Variant("quickstart", "quickstart", "order-extractor", "Succeeded"),
    Variant("regression", "regression", "order-extractor-regressing", "Stopped"),
    Variant("regression-mended", "regression", "order-extractor-regressing", "Succeeded", "5e-4"),
)


@dataclass(frozen=True)
class Row:
    """What one run came to."""

    example: str
    seed: int
    phase: str
    ended: str
    """What decided: the final gate's golden rate, or where training was stopped."""
    base: int
    """Golden cases that the base model passes."""
    golden: dict[int, int]
    """Golden cases passed, by step."""
    cases: int
    seconds: float


def main() -> int:
    """Returns 1 if an example did not end as it should."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--only", choices=[v.name for v in VARIANTS], nargs="+")
    args = parser.parse_args()
    rows, wrong = [], 0
    for variant in VARIANTS:
        for seed in args.seeds if variant.name in (args.only or [variant.name]) else ():
            row = run(variant, seed)
            rows.append(row)
            wrong += row.phase != variant.phase
            steps = " ".join(f"{step}:{passed}" for step, passed in row.golden.items())
            print(
                f"{row.example:<18} seed {row.seed}  {row.phase:<9}  base {row.base}/{row.cases}, "
                f"golden by step {steps}  {row.ended}  {row.seconds:.0f} s",
                flush=True,
            )
    (ROOT / "build" / "examples.json").write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n")
    return 1 if wrong else 0


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
    command = [sys.executable, "-m", "tunegate_operator.cli", "run", str(manifests)]
    started = time.monotonic()
    with (folder / "log").open("w") as log:
        subprocess.run(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, check=False)
    seconds = time.monotonic() - started
    status = yaml.safe_load((folder / "runs" / variant.job / "status.yaml").read_text())["status"]
    golden = {c["step"]: c["gates"][0]["golden"] for c in status["checkpoints"]}
    base = status["start"][0]["gates"][0]["golden"]
    return Row(
        example=variant.name,
        seed=seed,
        phase=status["phase"],
        ended=_ended(status),
        base=base["passed"],
        golden={step: g["passed"] for step, g in golden.items()},
        cases=base["total"],
        seconds=round(seconds, 1),
    )


def _ended(status: dict[str, dict[str, list[dict[str, dict[str, str]]]]]) -> str:
    if "stop" in status:
        return f"{status['stop']['reason']} at step {status['stop']['step']}"
    if "final" in status:
        return f"final golden {status['final']['gates'][0]['golden']['rate']}"
    return str(status.get("failure", {}).get("reason", ""))


if __name__ == "__main__":
    sys.exit(main())
