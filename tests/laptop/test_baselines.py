"""If two jobs run on one volume, the second job does not use a cached baseline that somebody forged."""

import json

import pytest
import yaml

from support.overlapping import good_and_worse

pytestmark = pytest.mark.model


@pytest.mark.slow
def test_forged_baseline_does_not_change_a_later_jobs_verdict(tunegate, tiny_model):
    good, _ = good_and_worse(f"file://{tiny_model}", publish=[])
    first = tunegate("run", tunegate.write_all(good), seconds=400)
    assert first.returncode == 0, first.stdout
    cached = sorted((tunegate.runs / "volumes").rglob("tunegate/baselines/*.json"))
    (gate,) = (tunegate.runs / ".cluster").rglob("EvalGate/*/golden.yaml")
    recorded = yaml.safe_load(gate.read_text())["status"]["baselines"]
    assert {path.stem for path in cached} == {baseline["key"] for baseline in recorded}
    assert "recorded digest" not in tunegate.logs(), "the gate used what training had measured"
    for path in cached:
        result = json.loads(path.read_text())
        for case in result["cases"]:
            case["outcomes"] = dict.fromkeys(case["outcomes"], "p")
        path.write_text(json.dumps(result))
    good[-1]["metadata"]["name"] = "second"
    second = tunegate("run", tunegate.write_all(good, "again"), seconds=400)
    assert second.returncode == 0, second.stdout
    golden = [tunegate.status(name)["final"]["gates"][0]["golden"] for name in ("good", "second")]
    assert golden[0] == golden[1]
    assert "does not have its recorded digest" in tunegate.logs()
