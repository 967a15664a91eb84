"""A team tries a stricter gate in a dry run before it enforces it, from the manifests to the report."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.command import Command, manifests

pytestmark = [pytest.mark.model, pytest.mark.slow]

STRICTER = [
    {"id": f"no-{n}", "prompt": f"golden refund {n}", "expect": [{"type": "equals", "value": "no"}]}
    for n in range(20)
]
"""Golden cases that the model fails: its rows only teach it to answer yes."""


def write(tunegate: Command, model: Path, job: str, *, dry_run: bool, enforced: bool = True) -> str:
    """Write a job with the gate ``stricter`` and, if ``enforced``, the gate that the model passes."""
    gates = ["golden", "stricter"] if enforced else ["stricter"]
    *inputs, gate, spec = manifests(model, job, gates=[{"name": name} for name in gates])
    stricter: dict[str, Any] = gate | {
        "metadata": {"name": "stricter"},
        "spec": {
            "sets": [
                {
                    "name": "golden",
                    "source": {"inline": STRICTER},
                    "rules": [{"name": "all", "minPassRate": "80%"}],
                }
            ],
            "generation": {"maxNewTokens": 6},
            "compareWith": [],
            **({"enforcement": "DryRun"} if dry_run else {}),
        },
    }
    return tunegate.write_all([*inputs, gate, stricter, spec], job)


def test_failed_dry_run_is_published_and_the_enforced_gate_blocks(
    tunegate: Command, tiny_model: Path
) -> None:
    result = tunegate("run", write(tunegate, tiny_model, "rehearsed", dry_run=True))
    assert result.returncode == 0, result.stdout
    assert "stricter (dry run, Failed)" in result.stdout
    status = tunegate.status("rehearsed")
    assert {g["name"]: (g["verdict"], g.get("dryRun")) for g in status["final"]["gates"]} == {
        "golden": ("Passed", None),
        "stricter": ("Failed", True),
    }
    (version,) = (tunegate.runs / "volumes" / "models" / "orders").glob("rehearsed-*")
    evidence = json.loads((version / "evidence" / "verdict.json").read_text())
    assert {g["name"]: g["verdict"] for g in evidence["gates"]} == {"golden": "Passed", "stricter": "Failed"}
    card = (version / "README.md").read_text()
    assert "passed golden. Dry run, which was not enforced: stricter Failed." in card
    report = (tunegate.runs / "rehearsed" / "report.html").read_text(encoding="utf-8")
    assert "passed every enforced gate and every task metric. Dry run: stricter Failed." in report

    result = tunegate("run", write(tunegate, tiny_model, "enforced", dry_run=False))
    assert result.returncode == 1, result.stdout
    status = tunegate.status("enforced")
    assert status["failure"]["reason"] == "NoPassingCheckpoint"
    assert "golden 0/20 = 0.00, required 0.80" in status["failure"]["message"]
    assert "published" not in status


def test_model_without_an_enforced_gate_is_published_with_a_warning(
    tunegate: Command, tiny_model: Path
) -> None:
    folder = write(tunegate, tiny_model, "alone", dry_run=True, enforced=False)
    result = tunegate("run", folder)
    assert result.returncode == 0, result.stdout
    assert "no gate is enforced" in " ".join(result.stdout.split())
    status = tunegate.status("alone")
    assert status["display"]["gate"] == "NotEnforced"
    best = max(status["checkpoints"], key=lambda c: (float(c["task"]["exact_match"]), -c["step"]))
    assert best["step"] == status["bestCheckpoint"]["step"]
    (version,) = (tunegate.runs / "volumes" / "models" / "orders").glob("alone-*")
    card = (version / "README.md").read_text()
    assert "passed its task metrics. No gate was enforced." in card
    report = (tunegate.runs / "alone" / "report.html").read_text(encoding="utf-8")
    assert "No gate is enforced: the exact artifact passed every task metric." in report
