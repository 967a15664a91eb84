"""Score outputs with openai/evals itself, which is installed beside the packages of the tests."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from support.helm import ROOT

_REQUIREMENTS = ROOT / "requirements" / "openai-evals.txt"
_PROGRAM = """
import json, random, sys
from evals.elsuite.basic.includes import Includes
from evals.elsuite.basic.json_match import JsonMatch
from evals.elsuite.basic.match import Match
from evals.record import RecorderBase
from evals.base import RunSpec

class Recorded:
    def __init__(self, text): self.text = text
    def __call__(self, **ignored): return self
    def get_completions(self): return [self.text]

class Recorder(RecorderBase):
    def _flush_events_internal(self, events): pass

spec = RunSpec([], "name.split", "name", "split", {}, "user")
evals = {"Includes": Includes, "JsonMatch": JsonMatch, "Match": Match}

def outcome(name, ideal, text):
    recorder = Recorder(spec)
    one = evals[name]([Recorded(text)], samples_jsonl="", eval_registry_path="")
    with recorder.as_default_recorder("sample"):
        one.eval_sample({"input": "?", "ideal": ideal}, random.Random(0))
    (event,) = recorder.get_events("match")
    return "fp"[event.data["correct"]]

asked = json.load(sys.stdin)
print(json.dumps([[outcome(name, ideal, each) for each in texts] for name, ideal, texts in asked]))
"""


def eval_outcomes(asked: list[tuple[str, list[str], list[str]]]) -> list[list[str]]:
    """Return the outcome of each output, p (passed) or f (failed). ``asked`` has the class of an eval, the
    ideal answers and the outputs."""
    folder = _installed()
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        input=json.dumps(asked),
        # The module creates a client of OpenAI, which is not used.
        env=os.environ | {"PYTHONPATH": str(folder), "OPENAI_API_KEY": "unused"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"evals failed:\n{done.stderr[-3000:]}")
    outcomes: list[list[str]] = json.loads(done.stdout)
    return outcomes


def _installed() -> Path:
    """Return the folder with evals, which is installed if needed, without its registry of 700 MB."""
    (version,) = re.findall(r"^evals==(\S+)", _REQUIREMENTS.read_text(), re.MULTILINE)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("TUNEGATE_CACHE") or Path(cache) / "tunegate") / f"openai-evals-{version}"
    if not (folder / ".installed").exists():
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--require-hashes"]
        subprocess.run([*install, "--target", folder, "-r", _REQUIREMENTS], check=True, timeout=900)
        shutil.rmtree(folder / "evals/registry/data", ignore_errors=True)
        (folder / ".installed").touch()
    return folder
