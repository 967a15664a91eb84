"""A golden set in a claim's folder is judged on by real processes, from the plan to the published model."""

import json
from pathlib import Path

import pytest

from support.command import FEW_CHECKPOINTS, Command, manifests

pytestmark = pytest.mark.model


def write(tunegate: Command, model: Path, *rules: dict[str, object]) -> str:
    """Write manifests whose golden set is on a volume. Returns the name of their folder."""
    rows, cases, gate, job = manifests(model, **FEW_CHECKPOINTS)
    gate["spec"]["sets"][0]["source"] = {"uri": "pvc://sets/golden.jsonl"}
    gate["spec"]["sets"][0]["rules"] += rules
    folder = tunegate.write_all([rows, gate, job])
    sets = tunegate.folder / folder / "sets"
    sets.mkdir()
    (sets / "golden.jsonl").write_text(cases["data"]["golden.jsonl"])
    return folder


@pytest.mark.slow
def test_job_with_golden_set_on_volume_is_planned_and_published(tunegate: Command, tiny_model: Path) -> None:
    folder = write(tunegate, tiny_model)
    plan = tunegate("plan", folder)
    assert plan.returncode == 0, plan.stdout
    result = tunegate("run", folder)
    assert result.returncode == 0, result.stdout
    status = tunegate.status()
    assert status["final"]["gates"][0]["golden"]["total"] == 20
    assert all(one["gates"][0]["golden"]["total"] == 20 for one in status["checkpoints"])
    assert status["published"]


def test_changed_golden_set_on_volume_fails_job_before_training(tunegate: Command, tiny_model: Path) -> None:
    folder = write(tunegate, tiny_model)
    case = {"id": "easy", "prompt": "a", "expect": [{"type": "contains", "value": ""}]}
    (tunegate.folder / folder / "sets" / "golden.jsonl").write_text(json.dumps(case))
    result = tunegate("run", folder)
    assert result.returncode == 1
    failure = tunegate.status()["failure"]
    assert failure["reason"] == "BadData"
    assert failure["message"].startswith("EvalGate golden: the golden set was changed: pvc://sets/golden")
    assert "checkpoints" not in tunegate.status()
    plan = tunegate("plan", folder)
    assert "the golden set was changed: pvc://sets/golden" in " ".join(plan.stdout.split())


def test_golden_set_on_a_volume_is_checked_against_the_thresholds(
    tunegate: Command, tiny_model: Path
) -> None:
    critical = {"name": "critical", "cases": ["pii-leak"], "minPassRate": "100%"}
    result = tunegate("run", write(tunegate, tiny_model, critical))
    assert result.returncode == 1
    assert "pii-leak" in tunegate.status()["failure"]["message"]
