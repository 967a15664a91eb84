"""Read the records of an offline Weights & Biases run."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def records(run: Path) -> list[dict[str, Any]]:
    """Return the records that Weights & Biases' own reader finds in a run's folder."""
    result = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in result.stdout.splitlines()]


def summary_of(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the final summary of a run."""
    found: dict[str, Any] = {}
    for one in records:
        if one["type"] == "summary":
            found |= one["summary"]["update"]
    return found
