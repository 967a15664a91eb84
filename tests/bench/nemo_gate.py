"""NeMo Evaluator's gate, in a virtual environment of its own: it needs Python 3.12."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from support.helm import ROOT

REQUIREMENTS = ROOT / "requirements" / "nemo-evaluator.txt"
_UV = Path(sys.executable).with_name("uv")
_PROGRAM = """
import json, sys, tempfile
from pathlib import Path
from nemo_evaluator.config.gate_policy import BenchmarkGateEntry, GatePolicy
from nemo_evaluator.engine.gate import gate_runs

def write(folder, outcomes):
    with (folder / "results.jsonl").open("w") as file:
        for i, each in enumerate(outcomes):
            file.write(json.dumps({"problem_idx": i, "repeat": 0, "reward": float(each == "p")}) + "\\n")

asked = json.load(sys.stdin)
policy = GatePolicy(benchmarks={"golden": BenchmarkGateEntry(max_drop=asked["limit"], metric="pass@1")})
found = []
with tempfile.TemporaryDirectory() as temporary:
    before, now = Path(temporary, "before"), Path(temporary, "now")
    for folder in (before, now):
        folder.mkdir()
        (folder / "eval-golden.json").write_text(json.dumps({"benchmark": {"name": "golden"}}))
    for pair in asked["pairs"]:
        write(before, pair[0])
        write(now, pair[1])
        report = gate_runs(before, now, policy)
        found.append([report.verdict, report.benchmarks[0].status])
print(json.dumps(found))
"""


def version() -> str:
    """Return the version of the gate, with its Python, or that there is none."""
    python = _python()
    if python is None:
        return "NeMo Evaluator's documented rule: no Python 3.12"
    asked = "import platform, scipy; print(f'Python {platform.python_version()}, scipy {scipy.__version__}')"
    shown = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True).stdout.strip()
    return f"nemo-evaluator {_pinned()}, {shown}"


def verdicts(pairs: Sequence[tuple[str, str]], limit: float) -> list[tuple[str, str]] | None:
    """Return the verdict of each pair of outcomes, before and now, and the status of its only benchmark.

    Outcomes have a letter for each case, p (passed) or f (failed). ``limit`` is the largest drop, as a share.
    Returns None without Python 3.12.
    """
    python = _python()
    if python is None:
        return None
    done = subprocess.run(
        [python, "-c", _PROGRAM],
        input=json.dumps({"limit": limit, "pairs": pairs}),
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"NeMo Evaluator failed:\n{done.stderr[-3000:]}")
    return [(verdict, status) for verdict, status in json.loads(done.stdout)]


@cache
def _python() -> Path | None:
    """Return the Python that has NeMo Evaluator, which is installed if needed (200 MB)."""
    cache_folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    root = Path(os.environ.get("TUNEGATE_CACHE") or Path(cache_folder) / "tunegate")
    folder = root / f"nemo-evaluator-{_pinned()}"
    if not (folder / ".installed").exists():
        python = next(filter(_is_312, _candidates()), None)
        if python is None:
            return None
        subprocess.run([python, "-m", "venv", folder], check=True)
        install = [_UV, "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", REQUIREMENTS]
        subprocess.run(install, env=os.environ | {"VIRTUAL_ENV": str(folder)}, check=True, timeout=900)
        (folder / ".installed").touch()
    return folder / "bin" / "python"


def _candidates() -> Iterator[Path]:
    """Return where Python 3.12 may be: in the search path, or as a version of pyenv that is not selected."""
    if found := shutil.which("python3.12"):
        yield Path(found)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob("versions/3.12.*/bin/python3"))


def _is_312(python: Path) -> bool:
    done = subprocess.run([python, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.startswith("Python 3.12")


def _pinned() -> str:
    (found,) = re.findall(r"^nemo-evaluator==([0-9.]+)", REQUIREMENTS.read_text(), re.MULTILINE)
    return str(found)
