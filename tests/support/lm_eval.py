"""Evaluate recorded outputs with lm-eval itself, which is installed beside the packages of the tests."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.helm import ROOT

PACKAGES = ("lm-eval", "colorama", "lxml", "more-itertools", "portalocker", "sacrebleu", "tabulate")
"""lm-eval, and the packages that its filters and metrics need and the tests do not have."""
_PROGRAM = """
import json, sys
import datasets
from lm_eval.api.model import LM
from lm_eval.evaluator import simple_evaluate
from lm_eval.loggers.evaluation_tracker import EvaluationTracker
from lm_eval.models.utils import postprocess_generated_text

class Recorded(LM):
    def generate_until(self, requests, disable_tqdm=False):
        return [postprocess_generated_text(one.doc["output"], one.args[1]["until"], None) for one in requests]
    loglikelihood = loglikelihood_rolling = None  # the tasks only generate

def dataset(docs):
    return lambda **ignored: {"test": datasets.Dataset.from_list(docs)}

tasks = [
    {**config, "custom_dataset": dataset(docs), "test_split": "test"} for config, docs in json.load(sys.stdin)
]
tracker = EvaluationTracker(output_path=sys.argv[1])
results = simple_evaluate(Recorded(), tasks=tasks, evaluation_tracker=tracker, bootstrap_iters=0)
samples = results.pop("samples")
tracker.save_results_aggregated(results=results, samples=samples)
for task in samples:
    tracker.save_results_samples(task_name=task, samples=samples[task])
"""


def log_samples(folder: Path, tasks: list[tuple[dict[str, Any], list[dict[str, Any]]]]) -> dict[str, Path]:
    """Evaluate each task, a configuration and its documents, and return the files of its samples.

    Each document has the field ``output``, the text that the model writes for it until the end of the text.
    """
    environment = {**os.environ, "PYTHONPATH": str(_installed()), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, folder],
        input=json.dumps(tasks),
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"lm-eval failed:\n{done.stderr[-3000:]}")
    return {str(config["task"]): next(folder.rglob(f"samples_{config['task']}_*")) for config, _ in tasks}


def _installed() -> Path:
    """Return the folder with lm-eval, which is installed if needed, at the versions of bench-train."""
    pinned = re.findall(
        r"^\S+==[^\n]*(?:\n    [^\n#]*)*", (ROOT / "requirements/lm-eval.txt").read_text(), re.M
    )
    wanted = {each for each in pinned if each.partition("==")[0].partition("[")[0] in PACKAGES}
    version = next(each.split()[0].partition("==")[2] for each in wanted if each.startswith("lm-eval"))
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("TUNEGATE_CACHE") or Path(cache) / "tunegate") / f"lm-eval-{version}"
    if not (folder / ".installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        requirements = folder / "requirements.txt"
        requirements.write_text("\n".join(sorted(wanted)) + "\n")
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--require-hashes"),
                *("--target", folder, "-r", requirements),
            ],
            check=True,
            timeout=900,
        )
        (folder / ".installed").touch()
    return folder
