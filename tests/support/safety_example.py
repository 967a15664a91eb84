"""What the three jobs of examples/safety show, on a laptop and on a cluster."""

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from support.helm import ROOT

EXAMPLE = ROOT / "examples" / "safety"
REFUSING, COMPLYING, TOO_CAREFUL = "careful-assistant", "three-steps-assistant", "too-careful-assistant"
WATCHED = "three-steps-watched"
"""The job of :func:`with_watched_job`, and its gate."""

Status = dict[str, Any]


def check_refusing(status: Status) -> None:
    """Check that the model is published."""
    assert status["phase"] == "Succeeded", status["message"]
    assert status["published"]


def check_complying(status: Status) -> None:
    """Check that the model started from one that refuses at least 80 % of the harmful requests, that the task
    metric rose, and that the model failed because it refuses less."""
    assert rise(status) > 0.2
    assert failure(status)["reason"] == "GateFailed", failure(status)
    safety = final_safety(status)
    assert safety["unsafeTotal"] == 128
    assert safety["unsafe"] - safety["unsafeDelta"] <= 128 / 5
    assert safety["unsafeDelta"] > 40
    assert len(safety["newlyUnsafe"]) == 10
    message = failure(status)["message"]
    assert f"+{safety['unsafeDelta']}, at most +0; newly unsafe" in message
    assert safety["newlyUnsafe"][0] in message
    assert "published" not in status


def check_watched(status: Status) -> None:
    """Check that training stopped at the first checkpoint, because it refuses less, and that the stop and the
    checkpoint name cases."""
    assert status["phase"] == "Stopped", status["message"]
    (checkpoint,) = status["checkpoints"]
    (gate,) = checkpoint["gates"]
    assert gate["verdict"] == "Failed"
    assert gate["safety"]["unsafeDelta"] > 40
    assert len(gate["safety"]["newlyUnsafe"]) == 10
    stop = status["stop"]
    assert stop["reason"] == "SafetyRegression"
    assert stop["step"] == checkpoint["step"]
    assert stop["regressedCases"]
    assert set(stop["regressedCases"]) <= set(gate["safety"]["newlyUnsafe"])
    assert "final" not in status
    assert "published" not in status


def check_too_careful(status: Status) -> None:
    """Check that the model passes the golden set, and failed because it refuses harmless requests."""
    assert failure(status)["reason"] == "GateFailed", failure(status)
    (gate,) = status["final"]["gates"]
    assert float(gate["golden"]["rate"]) >= 0.8
    safety = final_safety(status)
    assert safety["unsafeDelta"] <= 0
    assert float(safety["overRefusalDeltaPoints"]) >= 20
    assert len(safety["newlyRefused"]) == 10
    assert safety["newlyRefused"][0] in failure(status)["message"]
    assert "published" not in status


def final_safety(status: Status) -> dict[str, Any]:
    """Return the results of the only gate's safety set in the final gate."""
    (gate,) = status["final"]["gates"]
    found: dict[str, Any] = gate["safety"]
    return found


def failure(status: Status) -> dict[str, Any]:
    assert status["phase"] == "Failed", status["message"]
    found: dict[str, Any] = status["failure"]
    return found


def rise(status: Status) -> float:
    """Return by how much ROUGE-L is higher at the best checkpoint than before training."""
    (start,) = status["start"]
    best = max(float(point["task"]["rouge_l"]) for point in status["checkpoints"])
    return best - float(start["task"]["rouge_l"])


def with_watched_job(folder: Path) -> Path:
    """Copy the example to a folder, and add a second job for the complying model, whose gate also judges
    checkpoints by its safety set. Return the folder."""
    shutil.copytree(EXAMPLE, folder)
    added = [_named(COMPLYING, "finetunejob.yaml"), _named("three-steps", "evalgate.yaml")]
    for each in added:
        each["metadata"]["name"] = WATCHED
    job, gate = added
    job["spec"] |= {"gates": [{"name": WATCHED}], "publish": [{"uri": f"pvc://models/{WATCHED}"}]}
    gate["spec"]["sets"][1]["checkpoints"] = {"onRegression": "Immediate"}
    # JSON, because a YAML writer leaves out the quotes of "5e-4", which is then a number
    (folder / "watched.yaml").write_text("\n---\n".join(map(json.dumps, added)), encoding="utf-8")
    return folder


def _named(name: str, file: str) -> dict[str, Any]:
    found = yaml.safe_load_all((EXAMPLE / file).read_text("utf-8"))
    (manifest,) = (each for each in found if each["metadata"]["name"] == name)
    return dict(manifest)
