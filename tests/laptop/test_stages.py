"""`tunegate run` of a job with three stages: SFT of an adapter, DPO of the same adapter, then training of all
weights."""

import re

import pytest

from support.command import DPO_AFTER_SFT, manifests, preference_pairs

pytestmark = [pytest.mark.model, pytest.mark.slow]

WHOLE = {
    "name": "whole",
    "method": "SFT",
    "training": {"maxSteps": 2, "learningRate": "0.00001", "batchSize": 4, "maxLength": 128, "seed": 1},
}


def test_three_stages_build_on_each_other_and_publish_model(tunegate, tiny_model):
    changes = DPO_AFTER_SFT | {
        "stages": [*DPO_AFTER_SFT["stages"], WHOLE],
        "taskMetrics": [
            {"name": "exact_match", "type": "ExactMatch", "min": "80%"},
            {"name": "preference_accuracy", "type": "PreferenceAccuracy", "min": "90%"},
        ],
    }
    tunegate.write_all([*manifests(tiny_model, **changes), preference_pairs()])
    result = tunegate("run", "manifests")
    assert result.returncode == 0, result.stdout

    status = tunegate.status()
    assert [(s["stage"], s["step"]) for s in status["start"]] == [("sft", 0), ("dpo", 0), ("whole", 0)]
    assert [(c["stage"], c["step"]) for c in status["checkpoints"]] == [
        *(("sft", 8), ("sft", 15)),
        *(("dpo", 3), ("dpo", 6)),
        *(("whole", 1), ("whole", 2)),
    ]
    assert status["final"]["verdict"] == "Passed"
    assert float(status["final"]["task"]["preference_accuracy"]) >= 0.9
    assert status["display"]["stage"] == "whole 3/3"
    (version,) = (tunegate.runs / "volumes/models/orders").glob("orders-*")
    names = {path.name for path in version.iterdir()}
    assert "model.safetensors" in names
    assert not [name for name in names if name.startswith("adapter")]
    card = (version / "README.md").read_text()
    assert "| beta | none | 0.1 | none |" in card
    text = " ".join(re.sub(r"<[^>]+>", " ", (tunegate.runs / "orders" / "report.html").read_text()).split())
    assert "preference_accuracy, dev" in text
    assert "preference_accuracy, test" in text
    assert "log-probability per token" in text, "pairs are shown case by case"
    assert "outcomes for" not in text, "every metric has its own rows"
