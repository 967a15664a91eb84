"""The report shows every parameter of a run with its resolved value."""

from pathlib import Path

import pytest

from support.job_folder import GATE, JobFolder
from support.report_page import BASE, GOOD, page, text_of


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    return JobFolder(tmp_path)


def test_report_shows_every_parameter_and_the_digests_and_versions(job: JobFolder) -> None:
    job.write_data()
    digest = job.write_gate(base=(BASE, "p" * 10), final=(GOOD, "p" * 10))
    text = text_of(page(job))
    for name in job.plan.stages[0].parameters.model_dump(exclude_none=True):
        assert f" {name} " in text
    assert "learning_rate 0.0002" in text
    assert "checkpoint_steps 20, 40, 60, 80, 100" in text
    assert f"seed {job.plan.stages[0].parameters.seed}" in text
    data = job.plan.data
    for sha256 in (digest, data.train.sha256, data.dev.sha256, data.test.sha256, job.golden_sha256):
        assert sha256 in text
    assert "transformers 5.24.0" in text
    assert "revision a09a354" in text


def test_report_shows_every_setting_of_evaluation_and_gates(job: JobFolder) -> None:
    job.spec = {
        "evaluation": {"every": 20, "batchSize": 16},
        "data": {
            "goal": "TaskSpecialization",
            "sources": [{"name": "train", "configMap": "invoices"}],
            "heldOut": {"fraction": "15%", "groupBy": "customer"},
        },
    }
    golden = {
        "rules": [
            {"name": "all", "minPassRate": "85%", "failAtDrop": "2.5%", "test": "NonInferior"},
            {"name": "critical", "cases": ["case-3", "edge"], "minPassRate": "100%"},
        ],
        "advisory": ["style"],
        "checkpoints": {"onRegression": "Immediate", "failAtDrop": "10%"},
    }
    job.gate_spec = {"golden": golden, "generation": {"maxNewTokens": 64}}
    job.write_data()
    text = text_of(page(job))
    assert (
        "evaluation.batchSize 16 evaluation.batching Fixed evaluation.precision Auto evaluation.every 20 "
        "heldOut.fraction 15% heldOut.groupBy customer"
    ) in text
    assert (
        f"Gate {GATE} rules all: minPassRate 85%, failAtDrop 2.5%, test NonInferior, "
        "critical, of case-3, edge: minPassRate 100% advisory style sealed none "
        "onRegression Immediate failAtDrop of checkpoints 10% "
        "compareWith BaseModel, LastPublished maxNewTokens 64 reasoning Strip "
        "samples 1, greedy enforcement Enforce"
    ) in text
    job.write_gate(base=(BASE, "p" * 10), final=(GOOD, "p" * 10))
    text = text_of(page(job))
    assert "device of the final gate NVIDIA L4 dtype of the final gate bfloat16" in text


def test_omitted_settings_are_shown_with_their_defaults(job: JobFolder) -> None:
    job.gate_spec = {"golden": {"rules": []}}
    text = text_of(page(job.write_data()))
    assert "evaluation.every 20% heldOut.fraction 12% heldOut.groupBy the prompt" in text
    assert (
        "rules all: failAtDrop 5%, test Measured advisory none sealed none "
        "onRegression Confirm failAtDrop of checkpoints 5%"
    ) in text
