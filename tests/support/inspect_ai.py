"""Score outputs with inspect_ai itself, which is installed in a virtual environment of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

VERSION = "0.3.285"
_PROGRAM = """
import asyncio, json, sys
from types import SimpleNamespace
from inspect_ai.scorer import Target, exact, includes, match

scorers = {"exact": exact(), "includes": includes(), "match": match()}

async def outcome(scorer, targets, text):
    score = await scorers[scorer](SimpleNamespace(output=SimpleNamespace(completion=text)), Target(targets))
    return "p" if score.value == "C" else "f"

async def main():
    found = [
        [await outcome(scorer, targets, each) for each in texts]
        for scorer, targets, texts in json.load(sys.stdin)
    ]
    print(json.dumps(found))

asyncio.run(main())
"""


def inspect_outcomes(asked: list[tuple[str, list[str], list[str]]]) -> list[list[str]]:
    """Return the outcome of each output, p (passed) or f (failed). ``asked`` has the name of a scorer, the
    targets and the outputs."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("TUNEGATE_CACHE") or Path(cache) / "tunegate") / f"inspect_ai-{VERSION}"
    python = folder / "bin/python"
    if not (folder / ".installed").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run(
            [python, "-m", "pip", "install", "-q", f"inspect_ai=={VERSION}"], check=True, timeout=900
        )
        (folder / ".installed").touch()
    done = subprocess.run(
        [python, "-c", _PROGRAM],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    outcomes: list[list[str]] = json.loads(done.stdout)
    return outcomes
